"""Pushing, watching and fetching a kernel: the real client against a loopback Kaggle, with a cheap notebook."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from kaggle_checks import failed
from kaggle_server import USERNAME
from test_files import WRITER
from waiting import wait_until

from digit_recognizer import files
from digit_recognizer.competition import kernel, notebook, submission
from digit_recognizer.errors import UserError

ROOT = Path(__file__).parents[2]
NAME = "digit-recognizer-a-small-residual-cnn"
SLUG = f"{USERNAME}/{NAME}"
PAGE = f"https://www.kaggle.com/code/{SLUG}"
RUN = "fast-seed0-abc123"
LOCAL = Path("submissions") / RUN / "submission.csv"
FAST = {"preset": "fast", "seed": 1}
OTHER = {"preset": "fast", "seed": 2}


def build_notebook(settings):
    """Return a notebook with one cell that holds the settings."""
    cell = {"cell_type": "markdown", "id": "a", "source": f"SETTINGS = {dict(settings)!r}", "metadata": {}}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def ready(kaggle, kernel_files, tmp_path, monkeypatch):
    """A loopback Kaggle whose kernels are not run, but have a valid output; a folder with the kernel's metadata."""
    (tmp_path / kernel.METADATA).write_bytes((ROOT / kernel.METADATA).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebook, "build", build_notebook)
    kaggle.kernels.output = kernel_files()
    return kaggle


def push(settings=FAST):
    """Push and return the printed lines."""
    lines = []
    kernel.push(settings, Path("submissions"), say=lines.append)
    return lines


def push_and_fail(settings=FAST):
    """Return the error."""
    with pytest.raises(UserError) as caught:
        push(settings)
    return str(caught.value)


def assert_pushed_once(kaggle):
    assert [len(versions) for versions in kaggle.kernels.versions.values()] == [1]
    assert kernel.OUTPUT.read_bytes() == kaggle.kernels.output["run.zip"]


def change_metadata(**changes):
    files.write_json(kernel.METADATA, files.read_json(kernel.METADATA) | changes)


# Pushing


def test_push_sends_the_notebook_with_its_metadata_and_ends_with_the_fetched_output(ready):
    before = kernel.METADATA.read_bytes()
    ready.kernels.polls_until_running, ready.kernels.polls_until_ended = 2, 4
    *lines, last = push()
    pushed = [f"pushing {SLUG}", f"version 1 is pushed: {PAGE}", "queued", "running"]
    assert lines == [*pushed, f"{RUN}: validation accuracy 0.9942"]
    assert last.startswith(f"there is no {LOCAL} to compare it with; `make train submission`")
    assert_pushed_once(ready)
    (version,) = ready.kernels.versions[NAME]
    request = version["request"]
    assert (request["isPrivate"], request["enableGpu"], request["enableInternet"]) == (True, True, False)
    assert (request["language"], request["kernelType"]) == ("python", "notebook")
    assert request["competitionDataSources"] == ["digit-recognizer"]
    (cell,) = json.loads(request["text"])["cells"]
    assert re.fullmatch(
        rf"SETTINGS = {re.escape(str(FAST))}\n\n<!-- kernel-metadata\.json \w{{64}} -->", cell["source"]
    )
    assert kernel.METADATA.read_bytes() == before


def test_only_a_notebook_with_changed_cells_or_metadata_is_run_again(ready):
    push()
    assert push()[0] == f"{SLUG} is the same notebook; it is not run again"
    assert_pushed_once(ready)
    push(OTHER)
    change_metadata(machine_shape="NvidiaTeslaT4")
    push(OTHER)
    assert push(OTHER)[0] == f"{SLUG} is the same notebook; it is not run again"
    shapes = [version["request"].get("machineShape") for version in ready.kernels.versions[NAME]]
    assert shapes == [None, None, "NvidiaTeslaT4"]


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": True}, {"content": b"<html>"}], ids=str)
def test_push_received_in_spite_of_a_failure_is_found(ready, fault):
    ready.fail("SaveKernel", obey=True, **fault)
    push()
    assert_pushed_once(ready)
    assert ready.requests.count("SaveKernel") == 1


@pytest.mark.parametrize("before", [None, OTHER, FAST], ids=["none", "another", "failed"])
def test_push_that_was_not_received_is_repeated_by_the_next_call(ready, before):
    if before == OTHER:
        push(OTHER)
    if before == FAST:
        ready.kernels.failure = "A cell failed."
        push_and_fail()
        ready.kernels.failure = None
    ready.fail("SaveKernel", status=503)
    assert push_and_fail() == (
        "the push failed: Kaggle returned 503 (scripted 503); gave up after 1 attempt; wait 120 s and run the command "
        "again"
    )
    push()
    assert len(ready.kernels.versions[NAME]) == (2 if before else 1)


REFUSALS = {
    "error": (
        {"status": 200, "body": {"error": "Maximum batch GPU session count of 2 reached."}},
        "Kaggle refused the kernel: Maximum batch GPU session count of 2 reached.; see your sessions at",
    ),
    "competition": (
        {"status": 200, "body": {"versionNumber": 1, "invalidCompetitionSources": ["digit-recognizer"]}},
        f"accepted the kernel without the data of the competition; stop it at {PAGE}, accept the competition's rules",
    ),
    "403": ({"status": 403}, "Kaggle returned 403 (scripted 403); Kaggle provides GPUs only to accounts with a verif"),
}


@pytest.mark.parametrize(("fault", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refused_push_shows_kaggles_reason(ready, fault, message):
    ready.fail("SaveKernel", **fault)
    assert message in push_and_fail()
    push()  # nothing prevents the next attempt
    assert_pushed_once(ready)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": "Another title"}, "another kernel has this title, or this id has another title: change both in"),
        ({"id": None}, "expected JSON with an id as kernel-metadata.json, found something else"),
        ({"language": "perl"}, "kernel-metadata.json: A valid language must be specified in the metadata"),
    ],
    ids=str,
)
def test_invalid_metadata_are_refused(ready, change, message):
    change_metadata(**change)
    assert message in push_and_fail()
    assert ready.kernels.versions == {}


def test_kernel_is_watched_and_fetched_at_the_address_that_kaggle_answers_with(ready):
    ready.kernels.saved_as = {NAME: "another-name"}
    lines = push()
    moved = f"Kaggle saved the kernel as {USERNAME}/another-name; change id and title in kernel-metadata.json, so that"
    assert lines[1].startswith(moved)
    assert lines[2] == f"version 1 is pushed: https://www.kaggle.com/code/{USERNAME}/another-name"
    assert_pushed_once(ready)


@pytest.mark.parametrize("command", ["push", "kernel-output"])
def test_second_command_at_one_moment_names_the_first(ready, start_python, run_command, command):
    holder = start_python(WRITER, "kernel")
    wait_until(Path("kernel/.lock.txt").exists)
    assert f"is being written by process {holder.pid}, since" in failed(run_command(command))
    assert ready.requests == []


# Watching


def test_running_kernel_with_other_settings_is_not_replaced(ready, monkeypatch):
    ready.kernels.polls_until_ended = 10
    monkeypatch.setattr(kernel, "_watch", lambda *_: 1 / 0)  # interrupted
    with pytest.raises(ZeroDivisionError):
        push()
    message = push_and_fail(OTHER)
    assert f"a version of {SLUG} with other settings, code or metadata is running; wait, or stop it at" in message
    assert len(ready.kernels.versions[NAME]) == 1


@pytest.mark.parametrize("name", ["SaveKernel", "run.zip"])
def test_killed_push_is_continued_by_the_next_call(ready, start_python, name):
    ready.fail(name, delay=30, obey=True)
    process = start_python(
        f"from digit_recognizer.competition.kernel import *; notebook.build = lambda _: {build_notebook(FAST)!r}\n"
        "push({}, Path('submissions'))"
    )
    wait_until(lambda: name in ready.requests)
    process.kill()
    process.wait()
    assert push()[0] == f"{SLUG} is the same notebook; it is not run again"
    assert_pushed_once(ready)


def test_failed_kernel_shows_the_end_of_its_log_and_is_pushed_again(ready, run_command):
    ready.kernels.failure, ready.kernels.end = "A cell failed.", "CANCEL_ACKNOWLEDGED"
    ready.kernels.log = [f"line {number}" for number in range(99)] + ["\x1b[31mValueError\x1b[0m: no"]
    result = run_command("push")
    ended = f"{SLUG} ended with cancel acknowledged (A cell failed.)"
    assert failed(result) == f"{ended}; the end of its log is above, all of it at {PAGE}"
    lines = result.stdout.splitlines()
    assert lines[-25:] == [f"  line {number}" for number in range(75, 99)] + ["  ValueError: no"]
    assert "line 74" not in result.stdout
    ready.kernels.failure = None
    assert run_command("push").returncode == 0
    assert len(ready.kernels.versions[NAME]) == 2


# Fetching the output


@pytest.fixture
def finished(ready):
    """The same after a push."""
    push()
    return ready


def fetch():
    """Fetch the output and return the printed lines."""
    lines = []
    kernel.fetch_output(Path("submissions"), say=lines.append)
    return lines


def set_output(kaggle, output):
    kaggle.kernels.versions[NAME][-1]["files"] = output


def fetch_and_fail():
    """Return the error, after a check that the earlier output is kept."""
    before = kernel.OUTPUT.read_bytes()
    with pytest.raises(UserError) as caught:
        fetch()
    assert kernel.OUTPUT.read_bytes() == before
    return str(caught.value)


def test_output_of_no_kernel_names_the_push(ready, run_command):
    assert failed(run_command("kernel-output")).endswith("or you may not read it; `make push` creates it")


def test_invalid_output_says_how_to_run_the_kernel_again(finished, kernel_files, labels):
    remedy = f"; run `make kernel-output` again, see {PAGE}, or run `make push` with another SEED"
    set_output(finished, {"__results__.html": b"<html>"})
    assert fetch_and_fail().endswith(f"run.zip, found none{remedy}")
    set_output(finished, kernel_files())
    finished.fail("run.zip", content=b"<html>busy")
    assert fetch_and_fail().endswith(f"run.zip, found something else (File is not a zip file){remedy}")
    set_output(finished, kernel_files(labels=labels[:-1]))
    assert fetch_and_fail().endswith(f"a label 0..9, found the end of the file{remedy}")


def test_no_file_is_written_outside_the_folder(finished):
    with zipfile.ZipFile(kernel.OUTPUT) as archive:
        assert "../../outside.txt" in archive.namelist()
    assert sorted(path.name for path in kernel.OUTPUT.parent.iterdir()) == [".lock", ".lock.txt", "run.zip"]
    assert not list(Path.cwd().parent.rglob("outside.txt"))


KILL = """
import os
from pathlib import Path
from digit_recognizer.competition import kernel

replace = Path.replace
def replace_and_die(path, target):
    if target != kernel.OUTPUT or {after}:
        replace(path, target)
    if target == kernel.OUTPUT:
        os.kill(os.getpid(), 9)

Path.replace = replace_and_die
kernel.fetch_output(Path("submissions"))
"""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])  # the new archive replaces the old one
def test_fetch_that_is_killed_leaves_one_of_both_outputs_for_the_next_command(
    finished, kernel_files, labels, start_python, after
):
    old, new = finished.kernels.output["run.zip"], kernel_files(labels=9 - labels)["run.zip"]
    set_output(finished, {"run.zip": new})
    assert start_python(KILL.format(after=after)).wait() == -9
    assert kernel.OUTPUT.read_bytes() == (new if after else old)
    fetch()
    assert kernel.OUTPUT.read_bytes() == new
    assert sorted(path.name for path in kernel.OUTPUT.parent.iterdir()) == [".lock", ".lock.txt", "run.zip"]


def test_predictions_are_compared_with_the_local_run(finished, labels):
    submission.write_submission(LOCAL, labels)
    assert fetch()[-1] == f"its submission.csv is byte for byte {LOCAL}"
    changed = labels.copy()
    changed[[0, 9]] = (labels[[0, 9]] + 1) % 10
    submission.write_submission(LOCAL, changed)
    assert fetch()[-1] == f"2 of 28,000 predictions differ from {LOCAL}"
