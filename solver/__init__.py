"""Data rendering, the recursive model and its training: from puzzle sets to logits and weights. Accesses no files."""
