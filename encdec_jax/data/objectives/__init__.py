"""Objectives: values of one interface that say how windows of text become sources, targets and labels."""
