"""The command line: one file a verb, or a family of verbs that take the same."""
