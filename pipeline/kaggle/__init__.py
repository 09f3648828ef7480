"""Unattended runs within a time limit, and what Kaggle needs for them: bundle and notebook functions."""
