"""Puzzles as tokens and batches, and tokens back as grids."""
