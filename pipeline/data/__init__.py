"""The build stage: sources to a puzzle set."""
