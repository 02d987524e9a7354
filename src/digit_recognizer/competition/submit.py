"""Submit predictions to Kaggle, exactly once, and wait for the score."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity

from digit_recognizer.competition import client
from digit_recognizer.competition.client import CallError, Say, call, connect, poll
from digit_recognizer.competition.record import (
    LEDGER_NAME,
    NOT_UPLOADED,
    default_message,
    read_record,
    refuse_repetition,
    update_record,
)
from digit_recognizer.competition.submission import FILE_NAME, check_submission, hash_predictions
from digit_recognizer.config import COMPETITION
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.competitions.types.competition_api_service import ApiSubmission

LOOKS = 5  # for an upload in Kaggle's list of submissions, after 0, 1, 3, 7 and 15 seconds
SCORE_POLL = tenacity.wait_exponential(multiplier=2, exp_base=1.5, max=30)  # seconds
SCORE_SECONDS = 900  # how long to wait for a score
MESSAGE_LENGTH = 200  # characters; a truncated description could not be recognised
RUN_AGAIN = "run the command again: it checks Kaggle's list of submissions before it uploads"


def submit(folder: Path, *, message: str | None = None, force: bool = False, say: Say = print) -> dict[str, Any]:
    """Upload a submission exactly once and wait for its score.

    The record is written before the upload. If the process is killed, the next call looks for the earlier upload in
    Kaggle's list and waits for its score instead of uploading again.

    Args:
        folder: submissions/<run> with submission.csv and record.json; the ledger is in its parent.
        message: description of the submission on Kaggle; None for run, model and validation accuracy.
        force: submit predictions that were submitted before.
        say: prints one line of progress.

    Returns:
        The record, with submission_id, submitted_at and public_score.

    Raises:
        UserError: the submission is refused, the upload failed, or there is no score in time.
    """
    record = read_record(folder)
    _check(folder, record)
    message = " ".join((message or default_message(record)).split())
    if len(message) > MESSAGE_LENGTH:
        raise UserError(f"expected a message of at most {MESSAGE_LENGTH} characters, received {len(message)}")

    update_record(folder, record)  # the ledger is outdated if a call was killed between the two files
    api = None
    if record["status"] == "uploading":
        say("an earlier upload was interrupted; checking whether Kaggle received it")
        api = connect(say=say)
        if not _find_upload(api, folder, record, say):
            say("Kaggle did not receive it")
    if record["status"] != "pending":
        if not force:
            refuse_repetition(folder.parent / LEDGER_NAME, record)
        api = api or connect(say=say)
        _upload(api, folder, record, message, say)
    _wait_for_score(api or connect(say=say), folder, record, say)
    return record


def _check(folder: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if a submission may not be uploaded."""
    if record["competition"] != COMPETITION:
        raise UserError(
            f"expected a run on the data of {COMPETITION}, found one on the {record['competition']} data: "
            f"{folder} can never be submitted; run `make download train` first"
        )
    expected, predicted = record.get("run_test_sha256"), record["data"].get("test.csv")
    if expected and predicted != expected:
        raise UserError(
            f"expected predictions for the competition's test.csv, found {folder} for another file, which can never be "
            "submitted; run `make submission` with the DATA_DIR= of the competition's files"
        )
    if hash_predictions(check_submission(folder / FILE_NAME)) != record["predictions_sha256"]:
        raise UserError(
            f"expected the predictions recorded in {folder}, found others in {FILE_NAME}; delete {folder} and run "
            "`make submission`"
        )


def _upload(api: "KaggleApi", folder: Path, record: dict[str, Any], message: str, say: Say) -> None:
    """Upload the file, then look for it in Kaggle's list, whatever the response was."""
    _check_limit(api, say)
    before = [submission.ref for submission in _list_submissions(api, say)]
    record |= NOT_UPLOADED | {"status": "uploading", "message": message, "ids_before": before}
    update_record(folder, record)

    say(f"uploading {folder / FILE_NAME} as {message!r}")
    ref, failure = 0, None
    try:
        response = call("the submission", _submit_file, api, folder / FILE_NAME, message, retry_if=_is_safe, say=say)
        ref, outcome = response.ref, f"Kaggle responded {response.message!r}"
    except CallError as error:
        failure, outcome = error, f"the submission failed: {error.failure.text}"
    refused = failure is not None and _was_refused(failure.__cause__)
    try:
        found = _find_upload(api, folder, record, say, ref=ref, looks=1 if refused else LOOKS)
    except UserError as error:
        raise UserError(f"{outcome}, and whether Kaggle received it is unknown: {error}; {RUN_AGAIN}") from None
    if refused and not found:
        update_record(folder, record | NOT_UPLOADED)
        raise UserError(f"{failure}; nothing was submitted")
    if not found:
        raise UserError(f"{outcome}, but the submission is not in Kaggle's list; {RUN_AGAIN}")


def _submit_file(api: "KaggleApi", path: Path, message: str) -> Any:
    response = api.competition_submit(str(path), message, COMPETITION, quiet=True)
    if response.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:  # the client swallows the exception
        raise client.UploadError
    return response


def _was_refused(error: BaseException | None) -> bool:
    """Return whether a failed call certainly made no submission: it failed before the last request, or with 4xx."""
    request = getattr(error, "request", None)
    if request is None:
        return isinstance(error, client.UploadError)
    return 400 <= client.read_failure(error).status < 500 or not request.url.endswith("/CreateSubmission")


def _is_safe(error: BaseException) -> bool:
    return client.is_transient(error) and _was_refused(error)


def _find_upload(
    api: "KaggleApi", folder: Path, record: dict[str, Any], say: Say, *, ref: int = 0, looks: int = LOOKS
) -> bool:
    """Look for the upload of a record among the submissions that were not listed before it, and record its id."""

    def look() -> "ApiSubmission | None":
        for submission in _list_submissions(api, say):
            same = submission.file_name == FILE_NAME and submission.description == record["message"]
            if submission.ref not in record["ids_before"] and (submission.ref == ref or same):
                return submission
        return None

    found = poll(look, wait=tenacity.wait_exponential(), stop=tenacity.stop_after_attempt(looks))
    if found is not None:
        submitted_at = found.date.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")  # Kaggle's is naive UTC
        uploaded = {"status": "pending", "submission_id": found.ref, "submitted_at": submitted_at, "ids_before": None}
        record |= uploaded
        update_record(folder, record)
    return found is not None


def _wait_for_score(api: "KaggleApi", folder: Path, record: dict[str, Any], say: Say) -> None:
    """Wait for the score, and write it into the record and the ledger."""
    number = record["submission_id"]

    def look() -> "ApiSubmission | None":
        listed = (item for item in _list_submissions(api, say) if item.ref == number)
        return next((item for item in listed if item.status.name != "PENDING"), None)

    say(f"submission {number} is uploaded; waiting for its score")
    with show_spinner(f"waiting for the score of submission {number}"):
        submission = poll(look, wait=SCORE_POLL, stop=tenacity.stop_before_delay(SCORE_SECONDS))
    if submission is None:
        raise UserError(
            f"expected a score of submission {number} within {SCORE_SECONDS / 60:.0f} minutes, found none; run the "
            "command again to continue waiting: nothing is uploaded twice"
        )
    record["status"] = submission.status.name.lower()
    record["public_score"] = float(submission.public_score) if submission.public_score else None
    update_record(folder, record)
    if record["status"] == "error":
        reason = " ".join((submission.error_description or "no reason given").split())
        raise UserError(
            f"Kaggle could not score submission {number}: {reason}; see {client.COMPETITION_PAGE}/submissions"
        )


def _list_submissions(api: "KaggleApi", say: Say) -> list["ApiSubmission"]:
    """Return the latest submissions of the account, newest first."""
    return call("the list of submissions", api.competition_submissions, COMPETITION, page_size=100, say=say) or []


def _check_limit(api: "KaggleApi", say: Say) -> None:
    """Print how many submissions are left today; raise a UserError if there are none."""
    limits = call("the check of the daily limit", api.competition_get_submission_limits, COMPETITION, say=say)
    left = limits.num_allowed_now
    if left > 0:
        say(f"{left} submission{'s' * (left != 1)} left today")
    elif limits.num_today:  # otherwise this is the first submission of an account, which has no limits yet
        raise UserError(
            f"no submissions are left today ({limits.num_today} made); run the command again after 00:00 UTC"
        )
