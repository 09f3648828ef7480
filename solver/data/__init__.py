"""Encoding of puzzles as tokens and batches, and decoding of tokens to grids."""
