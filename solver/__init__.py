"""Batches in, logits out: recursive model, loss, optimizers, supervision. Knows no files."""
