"""The folder of predictions: voted on, scored, and rescored."""

import json
from pathlib import Path
from random import Random

from augment import load_tasks
from submissions.prediction_files import METADATA_FILE, read_predictions
from submissions.rankers import RANKERS
from submissions.submission_file import read_submission, validate_submission
from tests.fuzz.outcomes import call_command, refusable
from tests.fuzz.sealed import mutate_sealed_folder
from tests.fuzz.small_run import PREDICTIONS, SOURCE, on_files, write_all


def prepare() -> None:
    """Write predictions with latents and with the scores of rescoring."""
    write_all()


def mutate(random: Random) -> str:
    """Alter a file of the predictions."""
    return mutate_sealed_folder(random, Path(PREDICTIONS), METADATA_FILE)


def read(random: Random) -> None:
    """Vote with one ranker, score with all or rescore, and check the submission."""
    predictions, source = Path(PREDICTIONS), Path(SOURCE)
    read = refusable(read_predictions, predictions)
    assert all(0 <= index < len(read.tasks) for index in read.answers.task.tolist())
    how = random.choice(["vote", "vote", "score", "rankers", "rescore"])
    if how == "score":
        call_command("score", predictions, source)
    elif how == "rankers":
        call_command("score", predictions, source, "--rankers", "all", "--json")
    elif how == "rescore":
        call_command("predict", *on_files(), "--out", predictions, "--rescore", "2")
        refusable(read_predictions, predictions)
    else:
        submission = Path("submission.json")
        call_command("vote", predictions, source, "--out", submission, "--ranker", random.choice(list(RANKERS)))
        json.loads(submission.read_text())
        validate_submission(read_submission(submission), load_tasks(source), submission)
