"""Compiled: the project's real steps, compiled for accelerators that this machine does not have."""
