"""Read the JSON of a submission file; whatever cannot be read is one error that names the file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from augment.errors import UserError
from augment.sources.fast_json import escape
from augment.text_files import decode_text, read_regular_file


class SubmissionError(UserError):
    """A submission that cannot be read or that the competition would reject; the message lists the problems."""


def read_submission_json(path: Path) -> Any:
    """Return the JSON value of a file in any Unicode encoding.

    Raises:
        SubmissionError: if the path is no regular file, or the file cannot be read, is not JSON (with line and column)
            or repeats a key.
    """
    try:
        return json.loads(decode_text(read_regular_file(path)), object_pairs_hook=_refuse_repeated)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): give the path of an existing submission.json"
        raise SubmissionError(message) from error
    except json.JSONDecodeError as error:
        location = f"{path}, line {error.lineno}, column {error.colno}"
        raise SubmissionError(f"{location} is not JSON ({error.msg}): write the file again") from error
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{path} is not a submission ({error}): save it as UTF-8") from error
    except _RepeatedKeyError as error:
        raise SubmissionError(f"{path} is not a submission ({error}): write the file again") from error
    except UserError as error:
        raise SubmissionError(error.summary, error.fix) from error
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"{path} is not a submission ({error}): write the file again") from error


class _RepeatedKeyError(UserError):
    """An object with two values under one key, of which a dictionary would keep the last."""


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = min(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _RepeatedKeyError(f"the key {escape(repeated)} occurs more than once")
    return members
