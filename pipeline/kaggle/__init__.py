"""A run that nobody watches, within a time limit, and what Kaggle needs of it."""
