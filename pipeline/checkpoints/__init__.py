"""Checkpoints: written, read, converted, reduced to a backbone."""
