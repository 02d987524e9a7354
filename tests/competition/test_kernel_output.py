"""Fetching a kernel's output: the real client against a loopback Kaggle."""

import hashlib
import json
from pathlib import Path

import pytest
from kaggle_checks import KilledError, failed, kill_at
from kaggle_server import USERNAME

from digit_recognizer.competition import client, kernel_output, submission
from digit_recognizer.errors import UserError

SLUG = f"{USERNAME}/a-kernel"
RUN = "fast-seed0-abc123"
LOCAL = Path("submissions") / RUN / "submission.csv"


@pytest.fixture
def ready(kaggle, kernel_files, tmp_path, monkeypatch):
    """A loopback Kaggle with a finished kernel."""
    monkeypatch.chdir(tmp_path)
    version = {"files": kernel_files(), "log": '[{"data": "\\u001b[31mred\\u001b[0m\\n"}, {"data": "plain"}]'}
    kaggle.kernels.versions["a-kernel"] = [version]
    return kaggle


def set_files(kaggle, output):
    kaggle.kernels.versions["a-kernel"][0]["files"] = output


def fetch():
    """Fetch and return the printed lines."""
    lines = []
    kernel_output.fetch(client.connect(), SLUG, Path("submissions"), lines.append)
    return lines


def fetch_and_fail():
    """Return the error, after checking that no temporary folder is left."""
    with pytest.raises(UserError) as caught:
        fetch()
    assert not list(Path("kernel").glob(".output*"))
    return str(caught.value)


def read_output():
    return {
        path.relative_to(kernel_output.OUTPUT).as_posix(): path.read_bytes()
        for path in kernel_output.OUTPUT.rglob("*")
        if path.is_file()
    }


# Fetching


def test_every_file_of_the_manifest_is_fetched(ready, kernel_files):
    fetch()
    expected = kernel_files()
    del expected["__results__.html"]
    assert read_output() == expected | {"kernel.log": b"red\nplain\n"}
    assert kernel_output.OUTPUT.stat().st_mode & 0o777 == 0o755
    assert not list(Path("kernel").glob(".output*"))


FAULTS = [{"status": 503}, {"content": b"<html>busy"}, {"cut": 10}, {"reset": True}]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("manifest.json", FAULTS[1]), ("manifest.json", {"content": b""}), *(("run.json", fault) for fault in FAULTS)],
    ids=str,
)
def test_wrong_content_is_fetched_again(ready, kernel_files, name, fault):
    ready.fail(name, **fault)
    fetch()
    assert kernel_files().items() >= read_output().items() - {("kernel.log", b"red\nplain\n")}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503, "body": {}}, "the download of submission.csv failed: Kaggle returned 503; gave up after 8"),
        ({"content": b"<html>"}, "failed: the downloaded content is not the expected file; gave up after 8"),
        ({"status": 403}, "returned 403; its URL has expired; run `make kernel-output`"),
        ({"status": 404}, "returned 404; run `make kernel-output`"),
    ],
    ids=str,
)
def test_content_that_stays_wrong_is_not_kept(ready, fault, message):
    fetch()
    before = read_output()
    ready.fail("submission.csv", times=client.ATTEMPTS, **fault)
    assert message in fetch_and_fail()
    assert read_output() == before


@pytest.mark.parametrize("missing", ["manifest.json", "submission.csv"])
def test_error_of_a_missing_file(ready, kernel_files, missing):
    output = kernel_files()
    del output[missing]
    set_files(ready, output)
    assert f"expected {missing} in the output of {SLUG}, found __results__.html, " in fetch_and_fail()
    assert not kernel_output.OUTPUT.exists()


def test_error_of_an_invalid_submission(ready, kernel_files, labels):
    set_files(ready, kernel_files(labels=labels[:-1]))
    message = fetch_and_fail()
    assert "line 28001: expected ImageId 28000" in message
    assert message.endswith(
        f"found the end of the file; see https://www.kaggle.com/code/{SLUG}, or run `make push` with another SEED"
    )


@pytest.mark.parametrize("name", ["../../outside.txt", "/tmp/outside.txt"])  # noqa: S108
def test_no_file_is_written_outside_the_folder(ready, kernel_files, name):
    output = kernel_files()
    manifest = json.loads(output["manifest.json"])
    manifest["files"][name] = hashlib.sha256(b"here").hexdigest()
    set_files(ready, output | {name: b"here", "manifest.json": json.dumps(manifest).encode()})
    assert "the download of manifest.json failed: the downloaded content is not" in fetch_and_fail()
    assert not list(Path.cwd().parent.rglob("outside.txt"))


@pytest.mark.parametrize("step", [0, 1, 2])  # before, after and again before one of the two renames
def test_earlier_output_is_kept_until_the_new_one_is_complete(ready, kernel_files, step):
    fetch()
    before = read_output()
    set_files(ready, kernel_files(left_out=[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", kill_at(step)(Path.rename))
        with pytest.raises(KilledError):
            fetch()
    assert read_output() == before
    assert not list(Path("kernel").glob(".output.*"))
    fetch()
    assert read_output() != before


KILL = """
import os
from pathlib import Path
from digit_recognizer.competition import client, kernel_output

rename, steps = Path.rename, iter(range(10))
def rename_and_die(path, target):
    if next(steps) == {step}:
        os.kill(os.getpid(), 9)
    rename(path, target)

Path.rename = rename_and_die
kernel_output.shutil.rmtree = lambda path, **_: os.kill(os.getpid(), 9)  # after both renames
kernel_output.fetch(client.connect(), "{slug}", Path("submissions"), print)
"""


@pytest.mark.parametrize("step", [0, 1, 2])
def test_fetch_that_is_killed_leaves_one_of_both_outputs_for_the_next_command(
    ready, kernel_files, start_python, run_command, step
):
    fetch()
    before = read_output()
    set_files(ready, kernel_files(left_out=[1]))
    assert start_python(KILL.format(step=step, slug=SLUG)).wait() == -9
    assert list(Path("kernel").glob(".output.*"))
    kernel_output.make_submission(Path("submissions"))
    if step < 2:
        assert read_output() == before
    fetch()
    assert read_output() != before
    assert not list(Path("kernel").glob(".output.*"))


@pytest.mark.parametrize("run", ["../../outside", "/tmp/outside", "..", "", 5])  # noqa: S108
def test_run_in_a_manifest_is_the_name_of_a_folder(ready, kernel_files, run):
    output = kernel_files()
    set_files(
        ready, output | {"manifest.json": json.dumps(json.loads(output["manifest.json"]) | {"run": run}).encode()}
    )
    assert "the download of manifest.json failed: the downloaded content is not" in fetch_and_fail()


def test_error_of_a_kernel_that_was_never_pushed(kaggle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = "Kaggle returned 403 (Permission 'kernels.get' was denied); there is no such kernel, or you may not read"
    assert message in fetch_and_fail()


# Comparing


def test_predictions_are_compared_with_the_local_run(ready, labels):
    assert fetch()[-1].startswith(f"there is no {LOCAL} to compare it with; `make train submission`")
    submission.write_submission(LOCAL, labels)
    assert fetch()[-1] == f"kernel/output/submission.csv is byte for byte {LOCAL}"
    changed = labels.copy()
    changed[[0, 9]] = (labels[[0, 9]] + 1) % 10
    submission.write_submission(LOCAL, changed)
    assert fetch()[-1] == f"2 of 28,000 predictions differ from {LOCAL}, first at ImageId 1, 10"
    submission.write_submission(LOCAL, (labels + 1) % 10)
    assert fetch()[-1].startswith(f"28,000 of 28,000 predictions differ from {LOCAL}, first at ImageId 1, 2, 3, ")


def test_members_that_were_left_out_are_counted(ready, kernel_files):
    set_files(ready, kernel_files(left_out=[1]))
    assert "the kernel had no time for 1 of 2 members" in fetch()


# Submitting


def test_output_is_submitted_once(ready, run_command, labels):
    ready.labels = labels.tolist()
    fetch()
    result = run_command("submit", "--kernel")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "Public score 1.00000 (submission 30000001, validation accuracy 0.9942)"
    assert ready.submissions[0]["content"] == read_output()["submission.csv"]
    written = submission.read_record(Path("submissions") / f"{RUN}-kernel")
    assert (written["status"], written["public_score"]) == ("complete", 1.0)
    (row,) = submission.read_ledger(Path("submissions/ledger.csv"))
    assert row["run"] == f"{RUN}-kernel"
    assert "were submitted before (submission 30000001" in failed(run_command("submit", "--kernel"))
    result = run_command("submit", "--kernel", "--force", "--json", "--message", "again")
    assert json.loads(result.stdout) == submission.read_record(Path("submissions") / f"{RUN}-kernel")
    assert ready.submissions[0]["description"] == "again"


def test_only_an_unchanged_output_is_submitted(ready, run_command):
    message = "expected a kernel's output in kernel/output, found none; run `make push`"
    assert message in failed(run_command("submit", "--kernel"))
    fetch()
    path = kernel_output.OUTPUT / "submission.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    assert "expected kernel/output/submission.csv as it was fetched" in failed(run_command("submit", "--kernel"))
    assert ready.submissions == []


@pytest.mark.parametrize("content", ["", "[]", '{"run": "x", "files": ["submission.csv"]}'])
def test_output_without_a_valid_manifest_is_refused(ready, run_command, content):
    fetch()
    (kernel_output.OUTPUT / "manifest.json").write_text(content)
    assert "expected a kernel's output in kernel/output, found none" in failed(run_command("submit", "--kernel"))


def test_unfinished_upload_is_not_overwritten_by_another_output(ready, run_command, kernel_files, labels):
    fetch()
    folder = kernel_output.make_submission(Path("submissions"))
    submission.update_record(folder, submission.read_record(folder) | {"status": "uploading"})
    before = (folder / "submission.csv").read_bytes()
    set_files(ready, kernel_files(labels=9 - labels))
    fetch()
    assert "found an unfinished upload of other predictions in" in failed(run_command("submit", "--kernel"))
    assert (folder / "submission.csv").read_bytes() == before


def test_kernel_and_run_exclude_each_other(run_command):
    line = failed(run_command("submit", "--kernel", "--run", "x"))
    assert "expected either --kernel or a run to submit, received both" in line
