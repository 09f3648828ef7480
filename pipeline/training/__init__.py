"""The train stage: trains a model on a puzzle set, and writes its checkpoints and metrics."""
