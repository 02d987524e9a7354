"""Submitting: the real client against a loopback Kaggle."""

import errno
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kaggle_checks import KilledError, kill_at
from kaggle_server import ROWS, STORAGE_HOST
from waiting import wait_until

from digit_recognizer.competition import client, submission, submit
from digit_recognizer.errors import UserError

MESSAGE = "single-seed0-abc123: single CNN, validation accuracy 0.9942"


@pytest.fixture
def make_folder(tmp_path, run_record, labels):
    """Write the submission folder of a run."""

    def make(run=run_record["run"], *, labels=labels, test_sha256="2" * 64, **changes):
        folder = tmp_path / "submissions" / run
        submission.write_submission_folder(folder, run_record | {"run": run} | changes, labels, test_sha256)
        return folder

    return make


@pytest.fixture
def folder(make_folder):
    return make_folder()


def read_ledger(folder):
    return pd.read_csv(folder.parent / "ledger.csv")


def assert_submitted_once(kaggle, folder):
    """Check that Kaggle has the submission once, and that record and ledger hold its id and score."""
    assert [item["content"] for item in kaggle.submissions] == [(folder / "submission.csv").read_bytes()]
    number = kaggle.submissions[0]["ref"]
    written = submission.read_record(folder)
    assert (written["status"], written["submission_id"], written["public_score"]) == ("complete", number, 0.0)
    assert read_ledger(folder)[["submission_id", "status"]].to_numpy().tolist() == [[number, "complete"]]


def score_pending(kaggle):
    kaggle._pending.update(dict.fromkeys(kaggle._pending, 0))


def submit_and_fail(folder, **options):
    """Return the error."""
    with pytest.raises(UserError) as caught:
        submit.submit(folder, **options)
    return str(caught.value)


def test_submission_ends_with_its_score(kaggle, folder, labels):
    kaggle.labels = np.where(np.arange(ROWS) < 700, 9 - labels, labels).tolist()
    lines = []
    result = submit.submit(folder, say=lines.append)
    assert lines == [
        f"uploading {folder}/submission.csv as '{MESSAGE}'",
        "submission 30000001 is uploaded; waiting for its score",
    ]
    (at_kaggle,) = kaggle.submissions
    assert at_kaggle["content"] == (folder / "submission.csv").read_bytes()
    assert (at_kaggle["fileName"], at_kaggle["description"]) == ("submission.csv", MESSAGE)
    assert result == submission.read_record(folder)
    assert (result["status"], result["public_score"], result["message"]) == ("complete", 0.975, MESSAGE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result["submitted_at"])
    assert read_ledger(folder)["public_score"].tolist() == [0.975]


def test_missing_score_is_awaited_by_the_next_call_without_force(kaggle, make_folder, clock):
    folder = make_folder(warnings=["the loss is not finite"])
    kaggle.polls_until_scored = 1000
    message = submit_and_fail(folder, force=True)
    assert "submission 30000001 has no score after 15 minutes; run the command again to continue waiting" in message
    assert clock.sleeps[-33:] == [*submit.SCORE_PAUSES]
    assert 800 < sum(clock.sleeps) <= 900
    assert read_ledger(folder)["status"].tolist() == ["pending"]
    score_pending(kaggle)
    submit.submit(folder, message="another")
    assert_submitted_once(kaggle, folder)


def test_command_awaits_the_score_of_an_earlier_upload_of_a_retrained_run(kaggle, folder, run_command, tmp_path):
    kaggle.polls_until_scored = 1000
    submit_and_fail(folder)
    run_dir = tmp_path / "models" / folder.name
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text('{"finished_at": "later"}')
    score_pending(kaggle)
    result = run_command("submit", "--run", folder.name)
    assert result.stdout.splitlines()[-1] == (
        "Public score 0.00000 (submission 30000001, validation accuracy 0.9942)"
    ), result.stderr
    assert_submitted_once(kaggle, folder)


def test_submission_scored_as_an_error_shows_kaggles_reason_and_can_be_repeated(kaggle, folder):
    kaggle.scoring_error = "Evaluation Exception:\nSubmission must have 28000 rows"
    message = submit_and_fail(folder)
    assert "could not score submission 30000001: Evaluation Exception: Submission must have 28000 rows; see" in message
    assert submission.read_record(folder)["status"] == "error"
    kaggle.scoring_error = None
    submit.submit(folder)
    assert read_ledger(folder)["status"].tolist() == ["error", "complete"]


# Failures of the upload


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 403}, {"reset": True}, {"content": b"<html>"}, {"delay": 3}], ids=str
)
def test_submission_received_in_spite_of_a_failure_is_found(kaggle, folder, monkeypatch, fault):
    if "delay" in fault:
        monkeypatch.setattr(client, "TIMEOUT", (1, 0.3))
    kaggle.fail("CreateSubmission", obey=True, **fault)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)
    assert kaggle.requests.count("CreateSubmission") == 1


SUCCESS_TEXT = {"status": 200, "body": {"message": "Successfully submitted to Digit Recognizer"}}


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"status": 500}, "the submission failed: Kaggle returned 500 (scripted 500)"),
        ({"reset": True}, "the submission failed: no valid response from Kaggle (ProxyError)"),
        (SUCCESS_TEXT, "Kaggle responded 'Successfully submitted to Digit Recognizer'"),
    ],
    ids=str,
)
def test_submission_that_was_not_received_is_uploaded_by_the_next_call(kaggle, folder, clock, fault, outcome):
    kaggle.fail("CreateSubmission", **fault)
    assert submit_and_fail(folder).startswith(f"{outcome}, but it is not in Kaggle's list; run the command again")
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "uploading")
    assert kaggle.requests.count("CreateSubmission") == 1
    assert clock.sleeps == [0, 1, 2, 4, 8]
    lines = []
    submit.submit(folder, say=lines.append)
    assert lines[:2] == [
        "an earlier upload was interrupted; checking whether Kaggle received it",
        "Kaggle did not receive it",
    ]
    assert_submitted_once(kaggle, folder)


def test_unknown_outcome_is_not_repeated(kaggle, folder):
    kaggle.fail("CreateSubmission", status=500, obey=True)
    kaggle.fail("ListSubmissions", delay=0)
    kaggle.fail("ListSubmissions", status=500, times=8)
    assert submit_and_fail(folder).startswith("the list of submissions failed: Kaggle returned 500 (scripted 500)")
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("ListSubmissions", {"reset": True}), ("upload", {"reset": True}), ("CreateSubmission", {"status": 429})],
)
def test_failure_before_the_submission_is_retried(kaggle, folder, name, fault):
    kaggle.fail(name, **fault)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_upload_that_never_succeeds_is_given_up(kaggle, folder):
    kaggle.fail("upload", status=500, times=8)
    message = submit_and_fail(folder)
    assert "no valid response from Kaggle (ConnectionError); gave up after 8 attempts; check your connection" in message
    assert STORAGE_HOST not in message
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "written")
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_refused_submission_shows_kaggles_reason(kaggle, folder):
    kaggle.fail("CreateSubmission", status=400, body={"code": 400, "message": "The competition is closed"})
    message = submit_and_fail(folder)
    assert message == "the submission failed: Kaggle returned 400 (The competition is closed); nothing was submitted"
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "written")


# Killed processes


@pytest.mark.parametrize("name", ["StartSubmissionUpload", "CreateSubmission"])
def test_killed_process_is_continued_by_the_next_call(kaggle, start_python, folder, name):
    kaggle.fail(name, delay=30, obey=name == "CreateSubmission")
    process = start_python(
        f"from digit_recognizer.competition.submit import *; submit(Path('submissions/{folder.name}'))"
    )
    wait_until(lambda: name in kaggle.requests)
    process.kill()
    assert process.wait() == -9
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)
    assert kaggle.requests.count("CreateSubmission") == 1


def test_call_killed_at_any_step_is_continued_and_submits_once(kaggle, make_folder, monkeypatch):
    """A step is the time before or after any call of Kaggle and any writing of the record or the ledger."""
    kaggle.polls_until_scored = 1
    monkeypatch.setattr(submission, "SUBMISSION_ROWS", 100)
    monkeypatch.setattr("kaggle_server.ROWS", 100)
    rng = np.random.default_rng(1)
    for step in itertools.count():
        folder = make_folder(f"run-{step}", labels=rng.integers(0, 10, 100))
        before = len(kaggle.submissions)
        kill, killed = kill_at(step), False
        with monkeypatch.context() as patch:
            for module, name in ((client, "call"), (submission, "write_json"), (submission, "write_text")):
                patch.setattr(module, name, kill(getattr(module, name)))
            try:
                submit.submit(folder)
            except KilledError:
                killed = True
        try:
            submit.submit(folder)
        except UserError as error:
            assert f"were submitted before (submission {kaggle.submissions[0]['ref']}" in str(error)
        assert len(kaggle.submissions) == before + 1, step
        assert kaggle.submissions[0]["content"] == (folder / "submission.csv").read_bytes()
        assert submission.read_record(folder)["status"] == "complete"
        assert read_ledger(folder)["submission_id"].tolist().count(kaggle.submissions[0]["ref"]) == 1
        assert read_ledger(folder)["status"].iloc[-1] == "complete"
        if not killed:
            break
    assert step >= 20


# Several commands at once

SUBMIT = """
import sys
from pathlib import Path
from digit_recognizer.competition import submit

submit.SCORE_PAUSES = [0.05] * 1000
folder, log = map(Path, sys.argv[1:])

def say(line):
    with log.open("a") as file:
        print(line, file=file)

upload = submit._upload
def wait(*args):
    sys.stdin.read()
    upload(*args)

submit._upload = wait
sys.stderr = log.open("a", buffering=1)  # where a command says that it waits
submit.submit(folder, say=say)
"""


def test_two_commands_at_one_moment_upload_once(kaggle, start_python, folder, tmp_path):
    kaggle.polls_until_scored = 10**6
    logs = [tmp_path / "first.log", tmp_path / "second.log"]

    def has(log, text):
        return lambda: log.exists() and text in log.read_text()

    first = start_python(SUBMIT, folder, logs[0])
    wait_until(lambda: f"process {first.pid}," in (folder.parent / ".lock.txt").read_text())
    second = start_python(SUBMIT, folder, logs[1])
    wait_until(has(logs[1], f"{folder.parent}: waiting for process {first.pid}, since "))
    first.stdin.close()
    for log in logs:
        wait_until(has(log, "submission 30000001 is uploaded; waiting for its score"))
    score_pending(kaggle)
    assert [first.wait(), second.wait()] == [0, 0]
    assert "uploading" not in logs[1].read_text()
    assert kaggle.requests.count("CreateSubmission") == 1
    assert_submitted_once(kaggle, folder)


def test_score_that_another_command_has_read_does_not_replace_a_later_upload(kaggle, folder):
    kaggle.polls_until_scored = 10**6
    submit_and_fail(folder)
    waiting = submission.read_record(folder)
    kaggle.polls_until_scored = 0
    score_pending(kaggle)
    submit.submit(folder)
    later = submit.submit(folder, force=True)
    submit._wait_for_score(client.connect(), folder, waiting, print)
    assert submission.read_record(folder) == later
    assert read_ledger(folder)["submission_id"].tolist() == [30000001, 30000002]


# Refusals


def test_folder_that_cannot_be_written_is_noticed_before_the_upload(kaggle, folder, monkeypatch):
    def touch(path, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(OSError, match="Read-only"):
        submit.submit(folder)
    assert kaggle.requests == []


def test_submission_that_is_not_plausible_needs_force(kaggle, make_folder):
    folder = make_folder(labels=np.where(np.arange(ROWS) < 27_720, 1, 2), warnings=["the loss is not finite"])
    assert submit_and_fail(folder) == (
        f"{folder}: the loss is not finite; 99% of the 28,000 predictions are the digit 1; FORCE=1 (--force) submits "
        "it nevertheless"
    )
    assert kaggle.requests == []
    submit.submit(folder, force=True)
    assert_submitted_once(kaggle, folder)


def test_repeated_predictions_are_submitted_only_with_force(kaggle, make_folder, folder):
    submit.submit(folder)
    seen = len(kaggle.requests)
    again = make_folder("another-run")
    (again / "submission.csv").write_bytes((again / "submission.csv").read_bytes().replace(b"\r\n", b"\n"))
    for repeated in (folder, again):
        message = submit_and_fail(repeated)
        assert message.startswith(f"{repeated}: these predictions were submitted before (submission 30000001 of run ")
        assert message.endswith("public score 0.00000); FORCE=1 (--force) submits it nevertheless")
    assert len(kaggle.requests) == seen

    submit.submit(folder, force=True)  # the same run and message once more
    assert [item["ref"] for item in kaggle.submissions] == [30000002, 30000001]
    assert read_ledger(folder)["submission_id"].tolist() == [30000001, 30000002]


def test_earlier_submission_with_the_same_message_is_not_taken_for_a_lost_one(kaggle, folder):
    submit.submit(folder)
    kaggle.fail("CreateSubmission", status=500)
    assert "is not in Kaggle's list" in submit_and_fail(folder, force=True)
    submit.submit(folder)
    assert read_ledger(folder)["submission_id"].tolist() == [30000001, 30000002]


def test_predictions_for_other_data_are_refused_and_a_changed_file_too(kaggle, make_folder, labels):
    folder = make_folder("demo-run", competition="demo")
    assert f"{folder} can never be submitted: it is for demo data; run" in submit_and_fail(folder, force=True)
    folder = make_folder("another-test", labels=np.zeros(5, int), test_sha256="3" * 64)
    assert f"{folder} is for another test.csv; run `make submission`" in submit_and_fail(folder, force=True)
    folder = make_folder("changed")
    submission.write_submission(folder / "submission.csv", 9 - labels)
    assert "submission.csv was changed after it was written; move it away and run" in submit_and_fail(
        folder, force=True
    )
    # A run that never saw a test.csv: the number of rows decides.
    folder = make_folder("no-test", labels=np.zeros(5, int), data={})
    assert "line 7: expected ImageId 6 of 28,000 and a label" in submit_and_fail(folder, force=True)
    assert kaggle.requests == []
    submit.submit(make_folder("no-test", data={}))
    assert len(kaggle.submissions) == 1


def test_submission_is_recognised_by_its_id_when_kaggle_changes_its_message(kaggle, folder):
    kaggle.shown = str.upper
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_message_is_one_line_of_200_characters(kaggle, folder):
    submit.submit(folder, message="  mine,\n with a line  " + "m" * 200)
    assert kaggle.submissions[0]["description"] == "mine, with a line " + "m" * 182


def test_default_message_of_several_networks_has_their_number(folder):
    record = submission.read_record(folder) | {"validation_accuracy": None}
    record["config"]["folds"] = 5
    assert submit._describe(record) == "single-seed0-abc123: single 5 CNNs, trained on all rows"
