"""Submit predictions to Kaggle, exactly once, and wait for the score."""

import datetime
from pathlib import Path
from typing import Any

import tenacity

from digit_recognizer.competition import client, submission
from digit_recognizer.competition.client import Api, Say
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

    Args:
        folder: The submission's; its parent has the ledger.
        message: Description on Kaggle; None for run, model and validation accuracy.
        force: Submit also what was submitted before or is not plausible.
        say: Prints a line of progress.

    Raises:
        UserError: The submission is refused, the upload failed, or there is no score in time.
    """
    api = None
    with submission.lock_submissions(folder.parent):
        record = submission.read_record(folder)
        _require_submittable(folder, record)
        message = " ".join((message or _describe(record)).split())
        if len(message) > MESSAGE_LENGTH:
            raise UserError(f"expected a message of at most {MESSAGE_LENGTH} characters, received {len(message)}")

        submission.update_record(folder, record)  # the ledger is outdated if a call was killed between the two files
        if record["status"] == "uploading":
            say("an earlier upload was interrupted; checking whether Kaggle received it")
            api = client.connect(say=say)
            if not _find_upload(api, folder, record, say):
                say("Kaggle did not receive it")
        if record["status"] != "pending":
            doubts = _find_doubts(record, submission.read_ledger(folder.parent / submission.LEDGER_NAME))
            if doubts and not force:
                raise UserError(f"{folder}: {'; '.join(doubts)}; FORCE=1 (--force) submits it nevertheless")
            api = api or client.connect(say=say)
            _upload(api, folder, record, message, say)
    _wait_for_score(api or client.connect(say=say), folder, record, say)
    return record


def _require_submittable(folder: Path, record: dict[str, Any]) -> None:
    """Raise a `UserError` if a submission can never be uploaded."""
    path, test_sha256 = folder / submission.FILE_NAME, record.get("run_test_sha256")
    if record["competition"] != COMPETITION:
        origin = f"the {record['competition']} data"
        raise UserError(f"{folder} is for {origin} and can never be submitted; run `make download train` first")
    if test_sha256 and record["data"].get("test.csv") != test_sha256:
        remedy = "run `make submission` with the DATA_DIR= of the competition's files"
        raise UserError(f"{folder} is for another test.csv than the competition's; {remedy}")
    if submission.hash_predictions(submission.check_submission(path)) != record["predictions_sha256"]:
        raise UserError(f"{path} was changed after it was written; delete it and run `make submission`")


def _find_doubts(record: dict[str, Any], ledger: list[dict[str, str]]) -> list[str]:
    """Return why a submission needs `force`: its run is not plausible, or Kaggle has scored the same predictions."""
    doubts = list(record.get("warnings", []))  # records of earlier versions have none
    for row in ledger:
        if row["predictions_sha256"] == record["predictions_sha256"] and row["status"] != "error":
            score = f"public score {float(row['public_score']):.5f}" if row["public_score"] else row["status"]
            origin = f"submission {row['submission_id']} of run {row['run']}, {row['submitted_at']}, {score}"
            doubts.append(f"these predictions were submitted before ({origin})")
    return doubts


def _describe(record: dict[str, Any]) -> str:
    """Return the default message: run, model and validation accuracy."""
    members, accuracy = count_members(record["config"]), record["validation_accuracy"]
    networks = f"{members} CNNs" if members > 1 else "CNN"
    scored = "trained on all rows" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    return f"{record['run']}: {record['config']['preset']} {networks}, {scored}"


def _upload(api: Api, folder: Path, record: dict[str, Any], message: str, say: Say) -> None:
    """Upload the file, then look for it in Kaggle's list, whatever the response was."""
    say(read_limit(api, say))
    before = [row.ref for row in list_submissions(api, say)]
    record |= submission.NOT_UPLOADED | {"status": "uploading", "message": message, "ids_before": before}
    submission.update_record(folder, record)

    path, ref, refusal = folder / submission.FILE_NAME, 0, None
    say(f"uploading {path} as {message!r}")
    try:
        response = client.call("the submission", _send, api, path, message, may_repeat=_was_refused, say=say)
        ref, outcome = response.ref, f"Kaggle responded {response.message!r}"
    except client.CallError as error:
        outcome = f"the submission failed: {client.read_failure(error).text}"
        refusal = str(error) if _was_refused(error.__cause__) else None
    try:
        if _find_upload(api, folder, record, say, ref, looks=1 if refusal else LOOKS):
            return
    except UserError as error:
        outcome += f", and whether Kaggle received it is unknown: {error}"
    else:
        if refusal:
            submission.update_record(folder, record | submission.NOT_UPLOADED)
            raise UserError(f"{refusal}; nothing was submitted")
        outcome += ", but the submission is not in Kaggle's list"
    raise UserError(f"{outcome}; run the command again: it checks Kaggle's list before it uploads")


def read_limit(api: Api, say: Say, **options: Any) -> str:
    """Return a line about the submissions left today; raise a `UserError` if there are none. `options`: see `call`."""
    method = api.competition_get_submission_limits
    limits = client.call("the check of the daily limit", method, COMPETITION, say=say, **options)
    left, made = limits.num_allowed_now, limits.num_today
    if made and not left:  # an account has no limits before its first submission
        raise UserError(f"no submissions are left today ({made} made); run the command again after 00:00 UTC")
    return f"{left} submission{'s' * (left != 1)} left today" if left else "no submission was made yet"


def list_submissions(api: Api, say: Say, **options: Any) -> list[Any]:
    """Return the latest submissions of an account that has accepted the rules, newest first. `options`: see `call`."""
    method = api.competition_submissions
    return client.call("the list of submissions", method, COMPETITION, page_size=100, say=say, **options) or []


def _send(api: Api, path: Path, message: str) -> Any:
    response = api.competition_submit(str(path), message, COMPETITION, quiet=True)
    if response.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:  # the client swallows the exception
        raise client.TransferError("the file did not reach Kaggle's storage")
    return response


def _was_refused(error: BaseException | None) -> bool:
    """Return whether a failed call certainly made no submission: it failed before the last request, or with 4xx."""
    request = getattr(error, "request", None)
    if request is None:
        return isinstance(error, client.TransferError)
    return 400 <= client.read_failure(error).status < 500 or not request.url.endswith("/CreateSubmission")


def _find_upload(api: Api, folder: Path, record: dict[str, Any], say: Say, ref: int = 0, looks: int = LOOKS) -> bool:
    """Look for the upload of a record among the submissions that were not listed before it, and record its id."""

    def look() -> Any:
        for row in list_submissions(api, say):
            is_same = row.file_name == submission.FILE_NAME and row.description == record["message"]
            if row.ref not in record["ids_before"] and (row.ref == ref or is_same):
                return row
        return None

    row = client.poll(look, wait=tenacity.wait_exponential(), stop=tenacity.stop_after_attempt(looks))
    if row is not None:
        submitted_at = row.date.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")  # Kaggle's is naive UTC
        record.update(status="pending", submission_id=row.ref, submitted_at=submitted_at, ids_before=None)
        submission.update_record(folder, record)
    return row is not None


def _wait_for_score(api: Api, folder: Path, record: dict[str, Any], say: Say) -> None:
    """Wait for the score, and write it into the record and the ledger."""
    number = record["submission_id"]

    def look() -> Any:
        rows = [row for row in list_submissions(api, say) if row.ref == number and row.status.name != "PENDING"]
        return rows[0] if rows else None

    say(f"submission {number} is uploaded; waiting for its score")
    with show_spinner(f"waiting for the score of submission {number}"):
        row = client.poll(look, wait=SCORE_POLL, stop=tenacity.stop_before_delay(SCORE_SECONDS))
    if row is None:
        text = f"found no score of submission {number} within {SCORE_SECONDS / 60:.0f} minutes"
        raise UserError(f"{text}; run the command again to continue waiting: nothing is uploaded twice")
    record.update(status=row.status.name.lower(), public_score=float(row.public_score) if row.public_score else None)
    with submission.lock_submissions(folder.parent):
        if submission.read_record(folder)["submission_id"] == number:  # otherwise another command wrote this
            submission.update_record(folder, record)
    if record["status"] == "error":
        reason = " ".join((row.error_description or "no reason given").split())
        page = f"{client.COMPETITION_PAGE}/submissions"
        raise UserError(f"Kaggle could not score submission {number}: {reason}; see {page}")
