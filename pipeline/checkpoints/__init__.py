"""Checkpoints: saving, loading, conversion of published ones, and reduction to a backbone."""
