"""Turn predictions into a submission, a score and a report: predictions -> ballot -> submission -> score, report."""

from submissions.grid_table import Grids
from submissions.prediction_files import read_predictions, write_predictions
from submissions.predictions import Prediction, Predictions, make_predictions, merge_predictions
from submissions.rankers import RANKERS, Ranker, Votes, find_ranker, ranker
from submissions.recursion_trace import Recursion
from submissions.report.html_report import write_report
from submissions.report.task_gallery import write_gallery
from submissions.score import Figures, Score, score_submission
from submissions.submission_file import (
    PLACEHOLDER,
    Submission,
    make_submission,
    placeholder_submission,
    read_submission,
    validate_submission,
    write_submission,
)
from submissions.submission_json import SubmissionError
from submissions.vote import Ballot, Candidate, vote

__all__ = [
    "PLACEHOLDER",
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
    "find_ranker",
    "make_predictions",
    "make_submission",
    "merge_predictions",
    "placeholder_submission",
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
