"""The score stage: vote, submission file, score, report."""
