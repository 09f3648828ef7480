"""Sudokus, mazes and N-Queens as tasks: generated, or read from the published files."""
