"""The two things to do at Kaggle: fetch the competition's files, and submit predictions once."""

import datetime
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from digit_recognizer.competition import archive
from digit_recognizer.competition.client import UploadError, call, connect, describe, is_transient, status_of
from digit_recognizer.competition.submission import (
    FILE_NAME,
    LEDGER_NAME,
    NOT_UPLOADED,
    check_submission,
    default_message,
    hash_predictions,
    read_record,
    refuse_repetition,
    update_record,
)
from digit_recognizer.config import COMPETITION
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.competitions.types.competition_api_service import ApiSubmission

Say = Callable[[str], None]

LOOK_WAITS = (0, 1, 2, 4, 8)  # seconds before each look for an upload in Kaggle's list of submissions
FIRST_POLL_SECONDS = 2
LONGEST_POLL_SECONDS = 30
SCORE_SECONDS = 900  # how long to wait for a score
MESSAGE_LENGTH = 200  # characters; a description that Kaggle had to cut could not be recognised


def download(data_dir: Path, *, force: bool = False, say: Say = print) -> None:
    """Fetches the competition's archive, checks it and unpacks it.

    An interrupted download goes on where it stopped; a damaged one is fetched once more.

    Args:
        data_dir: folder to fill with train.csv, test.csv and sample_submission.csv.
        force: fetch them even when they are there and complete.
        say: takes each line of progress.

    Raises:
        UserError: no credentials, rules not accepted, no connection, or an archive that stays damaged.
    """
    if not force and archive.folder_fault(data_dir) is None:
        say(f"the competition's files are in {data_dir} already; FORCE=1 (--force) fetches them again")
        return
    workspace = data_dir / ".download"
    path = workspace / f"{COMPETITION}.zip"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        api = connect(say=say)
        if force:
            shutil.rmtree(workspace, ignore_errors=True)
        fault = _fetch(api, path, say)
        if fault:
            say(f"the archive is damaged: {fault}; fetching it again")
            shutil.rmtree(workspace)
            fault = _fetch(api, path, say)
        if fault:
            shutil.rmtree(workspace)
            raise UserError(
                f"expected the competition's archive, found a damaged one twice: {fault}; nothing in {data_dir} was "
                "changed; run the command again later"
            )
        archive.unpack(path, data_dir)
        shutil.rmtree(workspace)
    except OSError as error:
        raise UserError(
            f"could not write into {data_dir} ({error.strerror}); make room, or name another DATA_DIR= (--data-dir)"
        ) from None
    say(f"unpacked {', '.join(archive.EXPECTED)} into {data_dir}")


def submit(folder: Path, *, message: str | None = None, force: bool = False, say: Say = print) -> dict[str, Any]:
    """Uploads a submission exactly once and waits for its score.

    The record is written before the upload, so that a call that was killed can be made again: it looks for the earlier
    upload in Kaggle's list and waits for its score, rather than uploading a second time.

    Args:
        folder: submissions/<run> with submission.csv and record.json; the ledger is beside it.
        message: the submission's description on Kaggle; None for run, model and validation accuracy.
        force: submit predictions that were submitted before.
        say: takes each line of progress.

    Returns:
        The record, with submission_id, submitted_at and public_score.

    Raises:
        UserError: the submission may not be uploaded, could not be, was not scored in time, or was scored as an error.
    """
    record = read_record(folder)
    if record["competition"] != COMPETITION:
        raise UserError(
            f"expected a run on the data of {COMPETITION}, found one on the {record['competition']} data: "
            f"{folder} can never be submitted; run `make download train` first"
        )
    if hash_predictions(check_submission(folder / FILE_NAME)) != record["predictions_sha256"]:
        raise UserError(
            f"expected the predictions that {folder} was recorded with, found others in {FILE_NAME}; "
            f"delete {folder} and run `make submission`"
        )
    message = " ".join((message or default_message(record)).split())
    if len(message) > MESSAGE_LENGTH:
        raise UserError(f"expected a message of at most {MESSAGE_LENGTH} characters, received {len(message)}")

    if record["submission_id"] is not None:
        update_record(folder, record)  # a call killed between the two files left the ledger behind
    api = None
    if record["status"] == "uploading":
        say("an earlier upload was interrupted; looking whether Kaggle has it")
        api = connect(say=say)
        found = _find_upload(api, record, say)
        if found is not None:
            _note_upload(folder, record, found)
        else:
            say("Kaggle does not have it")
    if record["status"] != "pending":
        if not force:
            refuse_repetition(folder.parent / LEDGER_NAME, record)
        api = api or connect(say=say)
        _upload(api, folder, record, message, say)
    _wait_for_score(api or connect(say=say), folder, record, say)
    return record


def _fetch(api: "KaggleApi", path: Path, say: Say) -> str | None:
    """Downloads the archive to `path`, going on with what is there; returns what is wrong with it, or None."""
    say(f"downloading {path.name}")
    try:
        # The client's own bar on a terminal; its printed remarks are caught, and two lines of ours are enough.
        quiet = not sys.stderr.isatty()
        call("the download", api.competition_download_files, COMPETITION, path=str(path.parent), quiet=quiet, say=say)
    except ValueError:  # the client's check of the size
        return "its size is not what Kaggle said"
    return archive.archive_fault(path)


def _upload(api: "KaggleApi", folder: Path, record: dict[str, Any], message: str, say: Say) -> None:
    """Uploads the file, and whatever Kaggle says to that, looks in its list whether the submission is there."""
    left = _submissions_left(api, say)
    if left is not None:
        say(f"{left} submission{'s' * (left != 1)} left today")
    before = [submission.ref for submission in _list_submissions(api, say)]
    record |= NOT_UPLOADED | {"status": "uploading", "message": message, "ids_before": before}
    update_record(folder, record)

    say(f"uploading {folder / FILE_NAME} as {message!r}")
    answer, failure = None, None
    try:
        answer = call(
            "the submission", _submit_file, api, folder / FILE_NAME, message, retriable=_is_safe_to_repeat, say=say
        )
    except UserError as error:
        failure = error
    refused = failure is not None and _was_not_submitted(failure.__cause__)
    said = describe(failure.__cause__, "the submission") if failure else f"Kaggle said {answer.message!r}"
    again = "run the command again: it looks in Kaggle's list once more before it uploads"
    try:
        found = _find_upload(api, record, say, ref=answer.ref if answer else 0, looks=1 if refused else len(LOOK_WAITS))
    except UserError as error:
        raise UserError(f"{said}, and whether it was recorded is not known, for: {error}; {again}") from None
    if found is not None:
        _note_upload(folder, record, found)
        return
    if refused:
        update_record(folder, record | NOT_UPLOADED)
        raise UserError(f"{failure}; nothing was submitted")
    raise UserError(f"{said}, and does not list it; {again}")


def _submit_file(api: "KaggleApi", path: Path, message: str) -> Any:
    answer = api.competition_submit(str(path), message, COMPETITION, quiet=True)
    if answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:  # an answer like any other, but for its text
        raise UploadError
    return answer


def _is_safe_to_repeat(error: BaseException) -> bool:
    return is_transient(error) and _was_not_submitted(error)


def _was_not_submitted(error: BaseException | None) -> bool:
    """Whether a failed upload certainly left no submission: it failed before the last step, or that was refused."""
    if isinstance(error, UploadError):
        return True
    request = getattr(error, "request", None)
    if request is None:
        return False
    refused = requests.codes.bad_request <= status_of(error) < requests.codes.server_error
    return refused or not request.url.endswith("/CreateSubmission")


def _find_upload(
    api: "KaggleApi", record: dict[str, Any], say: Say, *, ref: int = 0, looks: int = len(LOOK_WAITS)
) -> "ApiSubmission | None":
    """Looks for the upload of a record among the submissions that were not there before it."""
    for seconds in LOOK_WAITS[:looks]:
        time.sleep(seconds)
        for submission in _list_submissions(api, say):
            same = submission.file_name == FILE_NAME and submission.description == record["message"]
            if submission.ref not in record["ids_before"] and (submission.ref == ref or same):
                return submission
    return None


def _note_upload(folder: Path, record: dict[str, Any], submission: "ApiSubmission") -> None:
    submitted_at = submission.date.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")  # naive UTC
    record |= {
        "status": "pending",
        "submission_id": submission.ref,
        "submitted_at": submitted_at,
        "ids_before": None,
    }
    update_record(folder, record)


def _wait_for_score(api: "KaggleApi", folder: Path, record: dict[str, Any], say: Say) -> None:
    """Asks for the score until it is there, and writes it into the record and the ledger."""
    number = record["submission_id"]
    say(f"submission {number} is uploaded; waiting for its score")
    deadline, interval = time.monotonic() + SCORE_SECONDS, FIRST_POLL_SECONDS
    with show_spinner(f"waiting for the score of submission {number}"):
        while True:
            submission = next((item for item in _list_submissions(api, say) if item.ref == number), None)
            if submission is not None and submission.status.name != "PENDING":
                break
            if time.monotonic() + interval > deadline:
                raise UserError(
                    f"expected a score of submission {number} within {SCORE_SECONDS / 60:.0f} minutes, found none; "
                    "run the command again to go on waiting: nothing is uploaded twice"
                )
            time.sleep(interval)
            interval = min(interval * 1.5, LONGEST_POLL_SECONDS)
    record["status"] = submission.status.name.lower()
    record["public_score"] = float(submission.public_score) if submission.public_score else None
    update_record(folder, record)
    if record["status"] == "error":
        reason = " ".join((submission.error_description or "no reason given").split())
        raise UserError(
            f"Kaggle could not score submission {number}: {reason}; look at it on "
            f"https://www.kaggle.com/competitions/{COMPETITION}/submissions"
        )


def _list_submissions(api: "KaggleApi", say: Say) -> list["ApiSubmission"]:
    """Returns the newest submissions of the account, newest first."""
    return call("the list of submissions", api.competition_submissions, COMPETITION, page_size=100, say=say) or []


def _submissions_left(api: "KaggleApi", say: Say) -> int | None:
    """Returns how many submissions are left today, None where Kaggle does not count yet."""
    limits = call("the submission limits", api.competition_get_submission_limits, COMPETITION, say=say)
    if limits.num_allowed_now > 0:
        return limits.num_allowed_now
    if not (limits.num_today or limits.num_total or limits.limited_by_total):
        return None  # all zero: no team yet, which the first submission makes
    if limits.limited_by_total:
        raise UserError(f"no submissions are left: {limits.num_total} are all that the competition allows")
    now = datetime.datetime.now(datetime.UTC)
    minutes = 24 * 60 - now.hour * 60 - now.minute
    raise UserError(
        f"no submissions are left today ({limits.num_today} made); run the command again in {minutes // 60} h "
        f"{minutes % 60} min, after 00:00 UTC"
    )
