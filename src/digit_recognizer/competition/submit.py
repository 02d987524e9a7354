"""Submit predictions to Kaggle, exactly once, and wait for the score."""

import datetime
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from requests import exceptions

from digit_recognizer.competition import client, submission
from digit_recognizer.competition.client import Api, Say
from digit_recognizer.config import COMPETITION, count_members
from digit_recognizer.errors import UserError

SCORE_PAUSES: Iterable[float] = (2, 3, 5, 10, 20, *[30] * 28)  # seconds between looks for a score, 15 minutes


def submit(folder: Path, *, message: str | None = None, force: bool = False, say: Say = print) -> dict[str, Any]:
    """Upload a submission exactly once, wait for its score and return its record.

    The record is written before the upload. If the process is killed, the next call looks for the earlier upload in
    Kaggle's list and waits for its score instead of uploading again. Of several calls at once one uploads; the others
    wait for it, and then for the score.

    Args:
        folder: The submission's; its parent has the ledger.
        message: Description on Kaggle, of which 200 characters are used; None for run, model and validation accuracy.
        force: Submit also what was submitted before or is not plausible.
        say: Prints a line of progress.

    Raises:
        UserError: The submission is refused, the upload failed, or there is no score in time.
    """
    with submission.lock_submissions(folder.parent):
        record = submission.read_record(folder)
        _require_submittable(folder, record)
        message = " ".join((message or _describe(record)).split())[:200]  # Kaggle cuts off the rest of a longer one
        submission.update_record(folder, record)  # the ledger is outdated if a call was killed between the two files
        if not force and record["status"] not in submission.REMEDIES:  # an unfinished upload had no doubts, or force
            _require_no_doubts(folder, record)
        api = client.connect(say=say)
        if record["status"] == "uploading":
            say("an earlier upload was interrupted; checking whether Kaggle received it")
            if not _find_upload(api, folder, record, say):
                say("Kaggle did not receive it")
        if record["status"] != "pending":
            _upload(api, folder, record, message, say)
    _wait_for_score(api, folder, record, say)
    return record


def _require_submittable(folder: Path, record: dict[str, Any]) -> None:
    """Raise a `UserError` if a submission can never be uploaded."""
    path, test_sha256 = folder / submission.FILE_NAME, record.get("run_test_sha256")
    if record["competition"] != COMPETITION:
        raise UserError(f"{folder} can never be submitted: it is for {record['competition']} data; run `make train`")
    if test_sha256 and record["data"].get("test.csv") != test_sha256:
        raise UserError(f"{folder} is for another test.csv; run `make submission` with the competition's DATA_DIR=")
    if submission.hash_predictions(submission.check_submission(path)) != record["predictions_sha256"]:
        raise UserError(f"{path} was changed after it was written; move it away and run `make submission`")


def _require_no_doubts(folder: Path, record: dict[str, Any]) -> None:
    """Raise a `UserError` if a submission is not plausible, or the ledger has the same predictions."""
    doubts = list(record.get("warnings", []))  # records of earlier versions have none
    for row in submission.read_ledger(folder.parent / submission.LEDGER_NAME):
        if row["predictions_sha256"] == record["predictions_sha256"] and row["status"] != "error":
            score = f"public score {float(row['public_score']):.5f}" if row["public_score"] else row["status"]
            origin = f"submission {row['submission_id']} of run {row['run']}, {row['submitted_at']}, {score}"
            doubts.append(f"these predictions were submitted before ({origin})")
    if doubts:
        raise UserError(f"{folder}: {'; '.join(doubts)}; FORCE=1 (--force) submits it nevertheless")


def _describe(record: dict[str, Any]) -> str:
    """Return the default message: run, model and validation accuracy."""
    members, accuracy = count_members(record["config"]), record["validation_accuracy"]
    networks = f"{members} CNNs" if members > 1 else "CNN"
    scored = "trained on all rows" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    return f"{record['run']}: {record['config']['preset']} {networks}, {scored}"


def _upload(api: Api, folder: Path, record: dict[str, Any], message: str, say: Say) -> None:
    """Upload the file, then look for it in Kaggle's list, whatever the response was."""
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
    if _find_upload(api, folder, record, say, ref):
        return
    if refusal:
        submission.update_record(folder, record | submission.NOT_UPLOADED)
        raise UserError(f"{refusal}; nothing was submitted")
    raise UserError(f"{outcome}, but it is not in Kaggle's list; run the command again: it looks there first")


def list_submissions(api: Api, say: Say, **options: Any) -> list[Any]:
    """Return the latest submissions of an account that has accepted the rules, newest first. `options`: see `call`."""
    method = api.competition_submissions
    return client.call("the list of submissions", method, COMPETITION, page_size=100, say=say, **options) or []


def _send(api: Api, path: Path, message: str) -> Any:
    response = api.competition_submit(str(path), message, COMPETITION, quiet=True)
    if response.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:  # the client swallows the exception
        raise exceptions.ConnectionError
    return response


def _was_refused(error: BaseException | None) -> bool:
    """Return whether a failed call certainly made no submission: it failed before the last request, or with 4xx."""
    request = getattr(error, "request", None)
    if request is None:
        return isinstance(error, exceptions.ConnectionError)  # of `_send`
    return 400 <= client.read_failure(error).status < 500 or not request.url.endswith("/CreateSubmission")


def _find_upload(api: Api, folder: Path, record: dict[str, Any], say: Say, ref: int = 0) -> bool:
    """Look for the upload of a record among the submissions that were not listed before it, and record its id."""
    for row in _poll(api, say, (1, 2, 4, 8)):
        is_same = row.file_name == submission.FILE_NAME and row.description == record["message"]
        if row.ref not in record["ids_before"] and (row.ref == ref or is_same):
            submitted_at = row.date.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")  # Kaggle's is naive UTC
            record.update(status="pending", submission_id=row.ref, submitted_at=submitted_at, ids_before=None)
            submission.update_record(folder, record)
            return True
    return False


def _poll(api: Api, say: Say, pauses: Iterable[float]) -> Iterator[Any]:
    """Yield the rows of Kaggle's list of submissions, at once and after each pause in seconds."""
    for pause in (0, *pauses):
        time.sleep(pause)
        yield from list_submissions(api, say)


def _wait_for_score(api: Api, folder: Path, record: dict[str, Any], say: Say) -> None:
    """Wait for the score, and write it into the record and the ledger."""
    number = record["submission_id"]
    say(f"submission {number} is uploaded; waiting for its score")
    rows = (row for row in _poll(api, say, SCORE_PAUSES) if row.ref == number and row.status.name != "PENDING")
    row = next(rows, None)
    if row is None:
        text = f"submission {number} has no score after 15 minutes"
        raise UserError(f"{text}; run the command again to continue waiting: nothing is uploaded twice")
    record.update(status=row.status.name.lower(), public_score=float(row.public_score) if row.public_score else None)
    with submission.lock_submissions(folder.parent):
        if submission.read_record(folder)["submission_id"] == number:  # otherwise another command wrote this
            submission.update_record(folder, record)
    if record["status"] == "error":
        reason = " ".join((row.error_description or "no reason given").split())
        page = f"{client.COMPETITION_PAGE}/submissions"
        raise UserError(f"Kaggle could not score submission {number}: {reason}; see {page}")
