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
from submissions.grids import Grids
from submissions.prediction import (
    Prediction,
    Predictions,
    make_predictions,
    merge_predictions,
    read_predictions,
    write_predictions,
)
from submissions.rankers import RANKERS, Ranker, Votes, find_ranker, ranker
from submissions.recursion import Recursion
from submissions.report import write_report
from submissions.score import Figures, Score, score_submission
from submissions.vote import Ballot, Candidate, vote

__all__ = [
    "FILLER",
    "RANKERS",
    "Ballot",
    "Candidate",
    "Figures",
    "Grids",
    "Prediction",
    "Predictions",
    "Ranker",
    "Recursion",
    "Score",
    "Submission",
    "SubmissionError",
    "Votes",
    "filler_submission",
    "find_ranker",
    "make_predictions",
    "make_submission",
    "merge_predictions",
    "ranker",
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
