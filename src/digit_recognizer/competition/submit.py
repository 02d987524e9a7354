"""Submit predictions to Kaggle, exactly once, and wait for the score."""

import datetime
from pathlib import Path
from typing import Any

import tenacity

from digit_recognizer.competition import client
from digit_recognizer.competition.client import Api, CallError, Say, call, connect, poll, read_failure
from digit_recognizer.competition.record import (
    LEDGER_NAME,
    NOT_UPLOADED,
    lock_submissions,
    read_ledger,
    read_record,
    update_record,
)
from digit_recognizer.competition.submission import FILE_NAME, check_submission, hash_predictions
from digit_recognizer.config import COMPETITION, count_members
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError

LOOKS = 5  # for an upload in Kaggle's list of submissions, after 0, 1, 3, 7 and 15 seconds
SCORE_POLL = tenacity.wait_exponential(multiplier=2, exp_base=1.5, max=30)  # seconds
SCORE_SECONDS = 900  # how long to wait for a score
MESSAGE_LENGTH = 200  # characters; a truncated description could not be recognised


def submit(folder: Path, *, message: str | None = None, force: bool = False, say: Say = print) -> dict[str, Any]:
    """Upload a submission exactly once, wait for its score and return its record.

    The record is written before the upload. If the process is killed, the next call looks for the earlier upload in
    Kaggle's list and waits for its score instead of uploading again. Of several calls at once one uploads; the others
    wait for it, and then for the score.

    `message` describes the submission on Kaggle: None stands for run, model and validation accuracy. Predictions that
    were submitted before are submitted again only with `force`. The ledger is in the parent of `folder`.

    Raises:
        UserError: the submission is refused, the upload failed, or there is no score in time.
    """
    api = None
    with lock_submissions(folder.parent):
        record = read_record(folder)
        _check(folder, record)
        message = " ".join((message or _describe(record)).split())
        if len(message) > MESSAGE_LENGTH:
            raise UserError(f"expected a message of at most {MESSAGE_LENGTH} characters, received {len(message)}")

        update_record(folder, record)  # the ledger is outdated if a call was killed between the two files
        if record["status"] == "uploading":
            say("an earlier upload was interrupted; checking whether Kaggle received it")
            api = connect(say=say)
            if not _find_upload(api, folder, record, say):
                say("Kaggle did not receive it")
        if record["status"] != "pending":
            if not force:
                _refuse_extra_images(folder, record)
                _refuse_implausible(folder, record)
                _refuse_repetition(folder.parent / LEDGER_NAME, record)
            api = api or connect(say=say)
            _upload(api, folder, record, message, say)
    _wait_for_score(api or connect(say=say), folder, record, say)
    return record


def _check(folder: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if a submission may not be uploaded."""
    if record["competition"] != COMPETITION:
        found = f"one on the {record['competition']} data: {folder} can never be submitted"
        raise UserError(f"expected a run on the data of {COMPETITION}, found {found}; run `make download train` first")
    expected, predicted = record.get("run_test_sha256"), record["data"].get("test.csv")
    if expected and predicted != expected:
        found = f"{folder} for another file; run `make submission` with the DATA_DIR= of the competition's files"
        raise UserError(f"expected predictions for the competition's test.csv, found {found}")
    path = folder / FILE_NAME
    if hash_predictions(check_submission(path)) != record["predictions_sha256"]:
        raise UserError(f"expected {path} as it was written, found it changed; delete it and run `make submission`")


def _describe(record: dict[str, Any]) -> str:
    """Return the default message: run, model and validation accuracy."""
    members, accuracy = count_members(record["config"]), record["validation_accuracy"]
    networks = f"{members} CNNs" if members > 1 else "CNN"
    scored = "trained on all rows" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    return f"{record['run']}: {record['config']['preset']} {networks}, {scored}"


def _refuse_extra_images(folder: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if the run was trained on more images than those of the competition."""
    if extra := record["data"].get("extra"):
        found = f"{extra['images']} more images from {extra['folder']}; FORCE=1 (--force) submits it nevertheless"
        raise UserError(f"{folder}: expected a run trained on train.csv alone, found {found}")


def _refuse_implausible(folder: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if the run or its predictions have warnings; records of earlier versions have none."""
    if warnings := record.get("warnings"):
        raise UserError(f"{folder} is not plausible: {'; '.join(warnings)}; FORCE=1 (--force) submits it nevertheless")


def _refuse_repetition(ledger: Path, record: dict[str, Any]) -> None:
    """Raise a UserError if the same predictions are in the ledger, unless Kaggle could not score them."""
    for row in read_ledger(ledger):
        if row["predictions_sha256"] == record["predictions_sha256"] and row["status"] != "error":
            score = f"public score {float(row['public_score']):.5f}" if row["public_score"] else row["status"]
            earlier = f"submission {row['submission_id']} of run {row['run']}, {row['submitted_at']}, {score}"
            raise UserError(f"these predictions were submitted before ({earlier}); FORCE=1 (--force) repeats it")


def _upload(api: Api, folder: Path, record: dict[str, Any], message: str, say: Say) -> None:
    """Upload the file, then look for it in Kaggle's list, whatever the response was."""
    limits = call("the check of the daily limit", api.competition_get_submission_limits, COMPETITION, say=say)
    left, made = limits.num_allowed_now, limits.num_today
    if left > 0:
        say(f"{left} submission{'s' * (left != 1)} left today")
    elif made:  # otherwise this is the first submission of an account, which has no limits yet
        raise UserError(f"no submissions are left today ({made} made); run the command again after 00:00 UTC")
    before = [submission.ref for submission in _list_submissions(api, say)]
    record |= NOT_UPLOADED | {"status": "uploading", "message": message, "ids_before": before}
    update_record(folder, record)

    path, ref, refusal = folder / FILE_NAME, 0, None
    say(f"uploading {path} as {message!r}")
    try:
        response = call("the submission", _submit_file, api, path, message, may_repeat=_was_refused, say=say)
        ref, outcome = response.ref, f"Kaggle responded {response.message!r}"
    except CallError as error:
        outcome = f"the submission failed: {read_failure(error).text}"
        refusal = str(error) if _was_refused(error.__cause__) else None
    found, unclear = False, "but the submission is not in Kaggle's list"
    try:
        found = _find_upload(api, folder, record, say, ref, looks=1 if refusal else LOOKS)
    except UserError as error:
        refusal, unclear = None, f"and whether Kaggle received it is unknown: {error}"
    if refusal and not found:
        update_record(folder, record | NOT_UPLOADED)
        raise UserError(f"{refusal}; nothing was submitted")
    if not found:
        raise UserError(f"{outcome}, {unclear}; run the command again: it checks Kaggle's list before it uploads")


def _submit_file(api: Api, path: Path, message: str) -> Any:
    response = api.competition_submit(str(path), message, COMPETITION, quiet=True)
    if response.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:  # the client swallows the exception
        raise client.TransferError("the file did not reach Kaggle's storage")
    return response


def _was_refused(error: BaseException | None) -> bool:
    """Return whether a failed call certainly made no submission: it failed before the last request, or with 4xx."""
    request = getattr(error, "request", None)
    if request is None:
        return isinstance(error, client.TransferError)
    return 400 <= read_failure(error).status < 500 or not request.url.endswith("/CreateSubmission")


def _find_upload(api: Api, folder: Path, record: dict[str, Any], say: Say, ref: int = 0, looks: int = LOOKS) -> bool:
    """Look for the upload of a record among the submissions that were not listed before it, and record its id."""

    def look() -> Any:
        for submission in _list_submissions(api, say):
            same = submission.file_name == FILE_NAME and submission.description == record["message"]
            if submission.ref not in record["ids_before"] and (submission.ref == ref or same):
                return submission
        return None

    found = poll(look, wait=tenacity.wait_exponential(), stop=tenacity.stop_after_attempt(looks))
    if found is not None:
        submitted_at = found.date.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")  # Kaggle's is naive UTC
        record.update(status="pending", submission_id=found.ref, submitted_at=submitted_at, ids_before=None)
        update_record(folder, record)
    return found is not None


def _wait_for_score(api: Api, folder: Path, record: dict[str, Any], say: Say) -> None:
    """Wait for the score, and write it into the record and the ledger."""
    number = record["submission_id"]

    def look() -> Any:
        found = [item for item in _list_submissions(api, say) if item.ref == number and item.status.name != "PENDING"]
        return found[0] if found else None

    say(f"submission {number} is uploaded; waiting for its score")
    with show_spinner(f"waiting for the score of submission {number}"):
        submission = poll(look, wait=SCORE_POLL, stop=tenacity.stop_before_delay(SCORE_SECONDS))
    if submission is None:
        found = f"found no score of submission {number} within {SCORE_SECONDS / 60:.0f} minutes"
        raise UserError(f"{found}; run the command again to continue waiting: nothing is uploaded twice")
    score = float(submission.public_score) if submission.public_score else None
    record.update(status=submission.status.name.lower(), public_score=score)
    with lock_submissions(folder.parent):
        if read_record(folder)["submission_id"] == number:  # otherwise another command wrote this, and went on
            update_record(folder, record)
    if record["status"] == "error":
        reason = " ".join((submission.error_description or "no reason given").split())
        page = f"{client.COMPETITION_PAGE}/submissions"
        raise UserError(f"Kaggle could not score submission {number}: {reason}; see {page}")


def _list_submissions(api: Api, say: Say) -> list[Any]:
    """Return the latest submissions of the account, newest first."""
    return call("the list of submissions", api.competition_submissions, COMPETITION, page_size=100, say=say) or []
