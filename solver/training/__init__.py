"""Deep supervision, losses and optimizers."""
