"""Fetching and submitting: the real client against a loopback Kaggle, through functions and the command line."""

import itertools
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from kaggle_server import ROWS, STORAGE_HOST, TOKEN
from test_client import failed

from digit_recognizer.competition import client, submission, submit
from digit_recognizer.competition.archive import EXPECTED
from digit_recognizer.errors import UserError

RULES = "https://www.kaggle.com/competitions/digit-recognizer/rules"
RUN = "single-seed0-abc123"
# The command line as it is, but for the predictions, which need a trained model.
SUBMIT = """
import sys
from digit_recognizer import cli, prediction
prediction.make_submission = lambda run_dir, submissions_dir, *_: submissions_dir / run_dir.name
sys.argv[0] = "digit-recognizer"
cli.main()
"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Waits of this process; the commands wait as they do for users, or as long as the server asks."""
    monkeypatch.setattr(submit, "LOOK_WAITS", (0, 0.01, 0.01))
    monkeypatch.setattr(submit, "FIRST_POLL_SECONDS", 0.01)


@pytest.fixture
def variables(kaggle):
    return kaggle.environment | {"KAGGLE_API_TOKEN": TOKEN}


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 10, ROWS)


@pytest.fixture
def make_folder(tmp_path, labels):
    """Makes a submission's folder, and what the command line wants of its run."""

    def make(run=RUN, *, competition_name="digit-recognizer", labels=labels):
        record = {
            "run": run,
            "competition": competition_name,
            "config": {"preset": "single", "folds": 1},
            "git_commit": None,
            "data": {},
            "versions": {},
            "finished_at": "2026-11-22T12:00:00+00:00",
            "scores": {"validation_accuracy": 0.9942},
        }
        folder = tmp_path / "submissions" / run
        submission.write_submission(folder / "submission.csv", labels)
        submission.write_record(folder, record, labels)
        (tmp_path / "models" / run).mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / run / "run.json").write_text(json.dumps(record))
        (tmp_path / "models" / "latest.json").write_text(json.dumps(run))
        return folder

    return make


@pytest.fixture
def folder(make_folder):
    return make_folder()


@pytest.fixture
def start_submit(tmp_path, clean_environment, variables):
    """Starts `digit-recognizer submit`."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-c", SUBMIT, "submit", *arguments],
            cwd=tmp_path,
            env=clean_environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def submit_command(start_submit):
    """Runs `digit-recognizer submit` to its end."""

    def run(*arguments):
        process = start_submit(*arguments)
        output = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, *output)

    return run


def ledger_of(folder):
    return pd.read_csv(folder.parent / "ledger.csv")


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def assert_submitted_once(kaggle, folder):
    """The submission is at Kaggle once, and record and ledger know it and its score."""
    assert [item["content"] for item in kaggle.submissions] == [(folder / "submission.csv").read_bytes()]
    record = submission.read_record(folder)
    number = kaggle.submissions[0]["ref"]
    assert (record["status"], record["submission_id"], record["public_score"]) == ("complete", number, 0.0)
    ledger = ledger_of(folder)
    assert ledger["submission_id"].tolist() == [number]
    assert ledger["status"].tolist() == ["complete"]


# Downloading


def test_the_files_arrive_as_they_are(kaggle, command, variables, tmp_path, competition_files):
    result = command("download", "--data-dir", "elsewhere", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "downloading digit-recognizer.zip",
        "unpacked train.csv, test.csv, sample_submission.csv into elsewhere",
    ]
    assert {path.name: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()} == competition_files


def test_the_files_are_newer_than_the_archive_says(kaggle, tmp_path):
    started = time.time()
    submit.download(tmp_path)
    assert all((tmp_path / name).stat().st_mtime >= started - 1 for name in EXPECTED)


def test_complete_files_are_fetched_again_only_when_forced(kaggle, tmp_path, monkeypatch):
    submit.download(tmp_path)
    seen = len(kaggle.requests)
    lines = []
    submit.download(tmp_path, say=lines.append)
    assert len(kaggle.requests) == seen
    assert lines == [f"the competition's files are in {tmp_path} already; FORCE=1 (--force) fetches them again"]
    submit.download(tmp_path, force=True)
    (tmp_path / "test.csv").write_bytes(b"pixel0")
    submit.download(tmp_path)
    assert kaggle.requests.count("download") == 3


@pytest.mark.parametrize("shape", ["new", "old"])
def test_rules_that_are_not_accepted_are_named(kaggle, command, variables, shape):
    kaggle.rules_accepted = False
    reason = "You must accept this competition's rules before you'll be able to download files."
    if shape == "old":
        kaggle.fail("DownloadDataFiles", status=403, body={"code": 403, "message": reason})
    line = failed(command("download", **variables))
    assert line == (
        f"digit-recognizer: Kaggle answered the download with 403 ({reason}); accept the competition's rules at "
        f"{RULES} and run the command again"
    )


def test_a_competition_that_is_not_there_is_said_to_be(kaggle, command, variables):
    kaggle.competition = "another"
    assert "the download with 404 (Competition not found); look whether" in failed(command("download", **variables))


@pytest.mark.parametrize("name", ["IntrospectToken", "DownloadDataFiles", "download"])
@pytest.mark.parametrize("status", [429, 500])
def test_one_passing_failure_of_a_download_is_passed_over(kaggle, tmp_path, name, status):
    kaggle.fail(name, status=status, headers={"Retry-After": "0"})
    submit.download(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(EXPECTED)


def test_a_server_that_only_fails_is_given_up(kaggle, command, variables, tmp_path):
    kaggle.fail("DownloadDataFiles", status=500, headers={"Retry-After": "0"}, times=100)
    line = failed(command("download", **variables))
    assert re.search(
        r"the download with 500 \(scripted 500\); gave up after 8 attempts in \d s; wait some minutes", line
    )
    assert kaggle.requests.count("DownloadDataFiles") == 8
    assert not any((tmp_path / "data").glob("*.csv"))


def test_a_download_that_is_cut_in_the_middle_goes_on(kaggle, command, variables, tmp_path, competition_files):
    kaggle.fail("download", cut=len(kaggle.archive) // 2)
    result = command("download", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert kaggle.requests.count("download") == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == competition_files


def test_a_killed_download_leaves_no_file_and_goes_on_where_it_stopped(
    kaggle, make_archive, clean_environment, variables, tmp_path, competition_files
):
    kaggle.archive = make_archive(extra={"padding": os.urandom(3 << 20)})
    kaggle.fail("download", cut=5 << 19, stall=30)
    data_dir = tmp_path / "data"
    part = data_dir / ".download" / "digit-recognizer.zip"
    script = client.Path(sys.executable).with_name("digit-recognizer")
    with subprocess.Popen(
        [script, "download"], cwd=tmp_path, env=clean_environment | variables, stdout=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: part.exists() and part.stat().st_size == 2 << 20)
        process.kill()
    assert [path.name for path in data_dir.iterdir()] == [".download"]
    submit.download(data_dir)
    assert kaggle.ranges == [
        None,
        None,
        f"bytes={2 << 20}-",
    ]  # the client looks at the whole before it asks for the rest
    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == competition_files


def test_an_archive_that_is_damaged_once_is_fetched_again(kaggle, tmp_path, competition_files):
    damaged = bytearray(kaggle.archive)
    damaged[len(damaged) // 3] ^= 255
    kaggle.fail("download", content=bytes(damaged))
    lines = []
    submit.download(tmp_path, say=lines.append)
    assert re.fullmatch(r"the archive is damaged: .*; fetching it again", lines[1])
    assert kaggle.ranges == [None, None]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == competition_files


def test_an_archive_that_stays_damaged_changes_nothing(kaggle, command, variables, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("mine")
    kaggle.archive = kaggle.archive[:-100] + bytes(100)
    line = failed(command("download", **variables))
    assert re.search(
        "found a damaged one twice: it cannot be read as a zip archive .*; nothing in data was changed; run", line
    )
    assert kaggle.requests.count("download") == 2
    assert {path.name: path.read_text() for path in (tmp_path / "data").iterdir()} == {"train.csv": "mine"}


def test_an_archive_with_members_outside_is_not_unpacked(kaggle, make_archive, command, variables, tmp_path):
    kaggle.archive = make_archive(extra={"../../outside.txt": b"here"})
    assert "its member '../../outside.txt' points outside of the folder" in failed(command("download", **variables))
    assert not list(tmp_path.rglob("outside.txt"))
    assert not any((tmp_path / "data").iterdir())


def test_a_damaged_archive_of_the_right_size_is_not_taken_for_up_to_date(kaggle, tmp_path, competition_files):
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download" / "digit-recognizer.zip").write_bytes(bytes(len(kaggle.archive)))
    submit.download(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == competition_files


def test_a_folder_that_cannot_be_written_to_is_named(kaggle, tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(UserError, match=r"could not write into .*data \(File exists\); make room, or name another"):
        submit.download(tmp_path / "data")
    assert kaggle.requests == []


# Submitting


def test_a_submission_ends_with_its_score(kaggle, submit_command, folder, labels):
    kaggle.labels = np.where(np.arange(ROWS) < 700, 9 - labels, labels).tolist()
    result = submit_command()
    assert (result.returncode, result.stderr) == (0, "")
    message = f"{RUN}: single CNN, validation accuracy 0.9942"
    assert result.stdout.splitlines() == [
        "10 submissions left today",
        f"uploading submissions/{RUN}/submission.csv as '{message}'",
        "submission 30000001 is uploaded; waiting for its score",
        "Public score 0.97500 (submission 30000001, validation accuracy 0.9942)",
    ]
    (at_kaggle,) = kaggle.submissions
    assert at_kaggle["content"] == (folder / "submission.csv").read_bytes()
    assert (at_kaggle["fileName"], at_kaggle["description"]) == ("submission.csv", message)
    record = submission.read_record(folder)
    assert (record["status"], record["public_score"], record["message"]) == ("complete", 0.975, message)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["submitted_at"])
    assert ledger_of(folder)["public_score"].tolist() == [0.975]


def test_a_program_reads_the_record(kaggle, submit_command, folder):
    result = submit_command("--json", "--run", RUN, "--message", "  mine,\n with a line  ")
    assert result.returncode == 0
    assert json.loads(result.stdout) == submission.read_record(folder)
    assert kaggle.submissions[0]["description"] == "mine, with a line"


def test_the_score_is_waited_for(kaggle, folder):
    kaggle.polls_until_scored = 5
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_a_score_that_does_not_come_is_waited_for_by_the_next_command(kaggle, folder, monkeypatch):
    monkeypatch.setattr(submit, "SCORE_SECONDS", 0.05)
    kaggle.polls_until_scored = 1000
    with pytest.raises(
        UserError, match=r"submission 30000001 within 0 minutes.* run the command again to go on waiting"
    ):
        submit.submit(folder)
    assert ledger_of(folder)["status"].tolist() == ["pending"]
    kaggle._pending.clear()
    kaggle._pending[30000001] = 0
    submit.submit(folder, message="another", force=True)
    assert_submitted_once(kaggle, folder)


def test_a_submission_scored_as_an_error_gives_kaggles_reason(kaggle, submit_command, folder):
    kaggle.scoring_error = "Evaluation Exception:\nSubmission must have 28000 rows"
    line = failed(submit_command())
    assert "could not score submission 30000001: Evaluation Exception: Submission must have 28000 rows; look" in line
    assert submission.read_record(folder)["status"] == "error"
    assert ledger_of(folder)["status"].tolist() == ["error"]


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 403}, {"reset": True}, {"delay": 3}, {"cut": 3}, {"content": b"<html>"}],
    ids=str,
)
def test_a_submission_that_was_recorded_in_spite_of_a_failure_is_found(kaggle, folder, monkeypatch, fault):
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.5))
    kaggle.fail("CreateSubmission", obey=True, **fault)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)
    assert kaggle.requests.count("CreateSubmission") == 1


SUCCESS_TEXT = {"status": 200, "body": {"message": "Successfully submitted to Digit Recognizer"}}


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": True}, SUCCESS_TEXT], ids=str)
def test_a_submission_that_was_not_recorded_is_uploaded_by_the_next_command(kaggle, folder, fault):
    kaggle.fail("CreateSubmission", **fault)
    with pytest.raises(UserError, match="and does not list it; run the command again: it looks in Kaggle's list"):
        submit.submit(folder)
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "uploading")
    assert kaggle.requests.count("CreateSubmission") == 1
    lines = []
    submit.submit(folder, say=lines.append)
    assert lines[:2] == ["an earlier upload was interrupted; looking whether Kaggle has it", "Kaggle does not have it"]
    assert_submitted_once(kaggle, folder)


def test_a_submission_that_is_listed_late_is_found_by_the_next_command(kaggle, folder):
    kaggle.fail("CreateSubmission", status=500, obey=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit, "_list_submissions", lambda *_: [])
        with pytest.raises(UserError, match="and does not list it; run the command again"):
            submit.submit(folder)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_a_submission_whose_fate_cannot_be_read_is_not_repeated(kaggle, folder):
    kaggle.fail("CreateSubmission", status=500, obey=True)
    kaggle.fail("ListSubmissions", delay=0)
    kaggle.fail("ListSubmissions", status=500, headers={"Retry-After": "0"}, times=client.ATTEMPTS)
    with pytest.raises(
        UserError,
        match=r"submission with 500 .* and whether it was recorded is not known, for: Kaggle answered the list",
    ):
        submit.submit(folder)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


@pytest.mark.parametrize("name", ["GetSubmissionLimits", "ListSubmissions", "StartSubmissionUpload", "upload"])
@pytest.mark.parametrize("fault", [{"status": 500, "headers": {"Retry-After": "0"}}, {"reset": True}], ids=str)
def test_a_failure_before_the_submission_is_passed_over(kaggle, folder, monkeypatch, name, fault):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    kaggle.fail(name, **fault)
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_too_many_requests_at_the_submission_itself_are_passed_over(kaggle, folder):
    kaggle.fail("CreateSubmission", status=429, headers={"Retry-After": "0"})
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_an_upload_that_never_arrives_is_given_up(kaggle, folder, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    kaggle.fail("upload", status=500, times=client.ATTEMPTS)
    with pytest.raises(UserError, match="the file did not reach Kaggle's storage; gave up after 8 attempts") as caught:
        submit.submit(folder)
    assert STORAGE_HOST not in str(caught.value)
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "written")
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_a_refused_submission_gives_kaggles_reason(kaggle, submit_command, folder):
    kaggle.fail("CreateSubmission", status=400, body={"code": 400, "message": "The competition is closed"})
    line = failed(submit_command())
    assert line.endswith("answered the submission with 400 (The competition is closed); nothing was submitted")
    assert (kaggle.submissions, submission.read_record(folder)["status"]) == ([], "written")


def test_rules_that_are_not_accepted_are_named_at_the_submission(kaggle, submit_command, folder):
    kaggle.rules_accepted = False
    assert f"accept the competition's rules at {RULES} and run the command again; nothing was" in failed(
        submit_command()
    )


@pytest.mark.parametrize("moment", ["the upload begins", "it is recorded", "its score is pending"])
def test_a_killed_command_is_taken_up_by_the_next_one(kaggle, start_submit, submit_command, folder, moment):
    if moment == "the upload begins":
        kaggle.fail("StartSubmissionUpload", delay=30)
    elif moment == "it is recorded":
        kaggle.fail("CreateSubmission", delay=30, obey=True)
    else:
        kaggle.polls_until_scored = 1000
    last = {"the upload begins": "StartSubmissionUpload", "it is recorded": "CreateSubmission"}.get(moment)
    with start_submit() as process:
        if last:
            wait_until(lambda: last in kaggle.requests)
        else:
            wait_until(lambda: submission.read_record(folder)["status"] == "pending")
        process.kill()
    assert process.returncode == -9
    kaggle.polls_until_scored = 0
    kaggle._pending.update(dict.fromkeys(kaggle._pending, 0))
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)
    assert kaggle.requests.count("CreateSubmission") == 1


class KilledError(BaseException):
    """The end of a process, as far as its code can tell."""


def test_killed_at_any_step_and_started_again_it_submits_once(kaggle, make_folder, monkeypatch):
    """A step is the time before or after any call of Kaggle and any writing of the record or the ledger."""
    kaggle.polls_until_scored = 1
    kaggle.daily_limit = 1000
    rng = np.random.default_rng(1)
    for last in itertools.count():
        folder = make_folder(f"run-{last}", labels=rng.integers(0, 10, ROWS))
        steps = itertools.count()

        def die_after(function, steps=steps, last=last):
            def wrapped(*args, **kwargs):
                if next(steps) == last:
                    raise KilledError
                result = function(*args, **kwargs)
                if next(steps) == last:
                    raise KilledError
                return result

            return wrapped

        before = len(kaggle.submissions)
        with monkeypatch.context() as patch:
            patch.setattr(submit, "call", die_after(submit.call))
            patch.setattr(submission, "write_json", die_after(submission.write_json))
            patch.setattr(submission, "write_text", die_after(submission.write_text))
            try:
                submit.submit(folder)
                killed = False
            except KilledError:
                killed = True
        try:
            submit.submit(folder)
        except UserError as error:
            assert f"found exactly those of submission {kaggle.submissions[0]['ref']}" in str(error)
        assert len(kaggle.submissions) == before + 1, last
        assert kaggle.submissions[0]["content"] == (folder / "submission.csv").read_bytes()
        assert submission.read_record(folder)["status"] == "complete"
        assert ledger_of(folder)["submission_id"].tolist().count(kaggle.submissions[0]["ref"]) == 1
        assert ledger_of(folder)["status"].iloc[-1] == "complete"
        if not killed:
            break
    assert last >= 20


def test_identical_predictions_are_submitted_again_only_when_forced(kaggle, submit_command, make_folder, folder):
    submit.submit(folder)
    seen = len(kaggle.requests)
    again = make_folder("another-run")
    (again / "submission.csv").write_bytes((again / "submission.csv").read_bytes().replace(b"\r\n", b"\n"))
    for name in (RUN, "another-run"):
        line = failed(submit_command("--run", name))
        assert f"found exactly those of submission 30000001 (run {RUN}, " in line
        assert line.endswith("public score 0.00000); nothing was uploaded; FORCE=1 (--force) uploads them again")
    assert len(kaggle.requests) == seen

    result = submit_command("--run", RUN, "--force")  # the same name and message once more
    assert result.returncode == 0, result.stderr
    assert "(submission 30000002," in result.stdout
    assert [item["ref"] for item in kaggle.submissions] == [30000002, 30000001]
    assert ledger_of(folder)["submission_id"].tolist() == [30000001, 30000002]


def test_an_earlier_submission_of_the_same_name_and_message_is_not_taken_for_a_lost_one(kaggle, folder):
    submit.submit(folder)
    kaggle.fail("CreateSubmission", status=500)
    with pytest.raises(UserError, match="and does not list it; run the command again"):
        submit.submit(folder, force=True)
    submit.submit(folder, force=True)
    assert ledger_of(folder)["submission_id"].tolist() == [30000001, 30000002]


def test_a_demo_run_is_refused_without_asking_kaggle(kaggle, submit_command, make_folder):
    make_folder("demo-run", competition_name="demo")
    line = failed(submit_command("--run", "demo-run", "--force"))
    assert "found one on the demo data: submissions/demo-run can never be submitted; run `make download train" in line
    assert kaggle.requests == []


def test_a_wrong_file_is_refused_without_asking_kaggle(kaggle, submit_command, folder, labels):
    path = folder / "submission.csv"
    submission.write_submission(path, labels[:-1])
    assert "submission.csv, line 28001: expected 28,000 predictions, found the end" in failed(submit_command("--force"))
    submission.write_submission(path, 9 - labels)
    assert f"expected the predictions that submissions/{RUN} was recorded with" in failed(submit_command("--force"))
    assert kaggle.requests == []


def test_the_daily_limit_is_told_before_anything_is_uploaded(kaggle, submit_command, make_folder, folder, labels):
    kaggle.daily_limit = 1
    lines = []
    submit.submit(folder, say=lines.append)
    assert lines[0] == "1 submission left today"
    make_folder("another-run", labels=9 - labels)
    line = failed(submit_command())
    assert re.search(
        r"no submissions are left today \(1 made\); run the command again in \d+ h \d+ min, after 00:00", line
    )
    assert len(kaggle.submissions) == 1
    assert kaggle.requests.count("StartSubmissionUpload") == 1


def test_the_first_submission_of_an_account_is_not_taken_for_the_limit(kaggle, folder):
    kaggle.fail("GetSubmissionLimits", status=200, body={})  # all zero: no team yet
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_a_submission_is_recognised_by_its_number_when_kaggle_changes_its_message(kaggle, folder):
    kaggle.shown = str.upper
    submit.submit(folder)
    assert_submitted_once(kaggle, folder)


def test_a_message_that_kaggle_could_cut_is_refused(kaggle, folder):
    with pytest.raises(UserError, match="at most 200 characters, received 201"):
        submit.submit(folder, message="m" * 201)
    assert kaggle.requests == []
