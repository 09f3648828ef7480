"""The predict stage: predictions of a checkpoint for the test inputs of a puzzle set."""
