"""From predictions to a submission and its score: predictions -> ballot -> submission -> score and report."""

from submissions.format import (
    FILLER,
    Submission,
    SubmissionError,
    filler_submission,
    make_submission,
    read_submission,
    validate_submission,
    write_submission,
)
from submissions.gallery import write_gallery
from submissions.prediction import Prediction, Predictions, read_predictions, write_predictions
from submissions.report import write_report
from submissions.score import Figures, Score, score_submission
from submissions.vote import RANKERS, Ballot, Candidate, rank_candidates, vote

__all__ = [
    "FILLER",
    "RANKERS",
    "Ballot",
    "Candidate",
    "Figures",
    "Prediction",
    "Predictions",
    "Score",
    "Submission",
    "SubmissionError",
    "filler_submission",
    "make_submission",
    "rank_candidates",
    "read_predictions",
    "read_submission",
    "score_submission",
    "validate_submission",
    "vote",
    "write_gallery",
    "write_predictions",
    "write_report",
    "write_submission",
]
