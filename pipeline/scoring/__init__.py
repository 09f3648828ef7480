"""The score stage: vote, submission, score, report."""
