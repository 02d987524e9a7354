"""Pushing and watching a kernel: the real client against a loopback Kaggle, with a cheap notebook."""

import datetime
import io
import itertools
import json
import re
import zipfile
from pathlib import Path

import pytest
from kaggle_checks import failed, wait_until
from kaggle_server import ROWS, TOKEN, USERNAME

from digit_recognizer import files
from digit_recognizer.competition import client, kernel, kernel_output, notebook
from digit_recognizer.data import demo
from digit_recognizer.errors import UserError

ROOT = Path(__file__).parents[2]
NAME = "digit-recognizer-a-small-residual-cnn"
SLUG = f"{USERNAME}/{NAME}"
PAGE = f"https://www.kaggle.com/code/{SLUG}"
FAST = {"preset": "fast", "seed": 1}


def build_notebook(settings):
    """Return a notebook with one cell that holds the settings."""
    cell = {"cell_type": "code", "id": "a", "source": f"SETTINGS = {dict(settings)!r}", "metadata": {}, "outputs": []}
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernelspec}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with the kernel's metadata."""
    (tmp_path / kernel.METADATA).write_bytes((ROOT / kernel.METADATA).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebook, "build", build_notebook)
    return tmp_path


@pytest.fixture
def ready(kaggle, kernel_files):
    """A loopback Kaggle whose kernels are not run, but have a valid output."""
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
    assert (kernel_output.OUTPUT / "submission.csv").read_bytes() == kaggle.kernels.output["submission.csv"]


# Pushing


def test_push_ends_with_the_fetched_output(ready):
    ready.kernels.polls_until_running, ready.kernels.polls_until_ended = 2, 3
    after = r"watched for \d:\d\d:\d\d"
    patterns = [
        f"pushing {SLUG}",
        f"version 1 is pushed: {PAGE}",
        f"queued, {after}",
        f"running, {after}",
        f"complete, {after}",
        "fetched 8 files into kernel/output; their checksums match",
        "fast-seed0-abc123: validation accuracy 0.9942",
        "there is no submissions/fast-seed0-abc123/submission.csv to compare it with; .*",
    ]
    lines = push()
    assert len(lines) == len(patterns)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)), lines
    assert_pushed_once(ready)
    assert [item.ref for item in client.connect().kernels_list(mine=True)] == [SLUG]


def test_push_sends_the_notebook_with_its_settings_and_metadata(ready):
    before = kernel.METADATA.read_bytes()
    push()
    (version,) = ready.kernels.versions[NAME]
    request = version["request"]
    assert (request["isPrivate"], request["enableGpu"], request["enableInternet"]) == (True, True, False)
    assert (request["language"], request["kernelType"]) == ("python", "notebook")
    assert request["competitionDataSources"] == ["digit-recognizer"]
    assert json.loads(request["text"]) == json.loads(build_notebook(FAST))
    assert kernel.METADATA.read_bytes() == before


def test_finished_kernel_is_fetched_and_not_run_again(ready):
    push()
    assert push()[0] == f"version 1 of {SLUG} is the same notebook; it is not run again"
    assert_pushed_once(ready)
    push({"preset": "fast", "seed": 2})
    assert len(ready.kernels.versions[NAME]) == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": True}, {"content": b"<html>"}], ids=str)
def test_push_received_in_spite_of_a_failure_is_found(ready, fault):
    ready.fail("SaveKernel", obey=True, **fault)
    push()
    assert_pushed_once(ready)
    assert ready.requests.count("SaveKernel") == 1


def test_push_that_was_not_received_is_repeated_by_the_next_call(ready):
    ready.fail("SaveKernel", status=503)
    message = "the new version is not there yet; run the command again, which looks for it first"
    assert message in push_and_fail()
    assert ready.kernels.versions == {}
    push()
    assert_pushed_once(ready)


def test_earlier_version_is_not_taken_for_a_push_that_was_not_received(ready):
    push()
    ready.fail("SaveKernel", status=503)
    assert "the new version is not there yet" in push_and_fail({"preset": "fast", "seed": 2})
    push({"preset": "fast", "seed": 2})
    assert len(ready.kernels.versions[NAME]) == 2


def test_failed_version_is_not_taken_for_its_repetition_that_was_not_received(ready):
    ready.kernels.failure = "A cell failed."
    assert "ended with error" in push_and_fail()
    ready.kernels.failure = None
    ready.fail("SaveKernel", status=503)
    assert "the new version is not there yet" in push_and_fail()
    push()
    assert len(ready.kernels.versions[NAME]) == 2


def test_other_notebook_that_is_saved_meanwhile_is_not_taken_for_the_push(ready, monkeypatch):
    other = build_notebook({"preset": "fast", "seed": 2})
    monkeypatch.setattr(kernel, "write_text", lambda path, _: files.write_text(path, other))
    assert "the new version is not there yet" in push_and_fail()
    assert not kernel_output.OUTPUT.exists()


def test_too_many_requests_are_retried(ready):
    ready.fail("SaveKernel", status=429, headers={"Retry-After": "0"})
    push()
    assert_pushed_once(ready)


REFUSALS = {
    "error": (
        {"status": 200, "body": {"error": "Maximum batch GPU session count of 2 reached."}},
        "Kaggle refused the kernel: Maximum batch GPU session count of 2 reached.; you can stop running sessions at",
    ),
    "competition": (
        {"status": 200, "body": {"versionNumber": 1, "invalidCompetitionSources": ["digit-recognizer"]}},
        f"accepted the kernel without the competition sources digit-recognizer; stop it at {PAGE}, accept the competit",
    ),
    "401": ({"status": 401}, "rejected the token in KAGGLE_API_TOKEN"),
    "403": ({"status": 403}, "Kaggle returned 403 (scripted 403); Kaggle provides GPUs only to accounts with a verif"),
    "409": (
        {"status": 200, "body": {"code": 409, "message": "slug taken"}},
        "the push failed: Kaggle returned 409 (slug taken); another kernel has this title",
    ),
    "400": ({"status": 400}, "the push failed: Kaggle returned 400 (scripted 400)"),
}


@pytest.mark.parametrize(("fault", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refused_push_shows_kaggles_reason(ready, fault, message):
    ready.fail("SaveKernel", **fault)
    assert message in push_and_fail()
    assert ready.kernels.versions == {}
    push()  # nothing prevents the next attempt
    assert_pushed_once(ready)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": "Another title"}, "expected the id .../another-title for its title, found"),
        ({"language": "perl"}, "kernel-metadata.json: A valid language must be specified in the metadata"),
        ({"id": None}, "kernel-metadata.json: expected id as text, found another type; restore the file from git"),
        ({"title": 5}, "kernel-metadata.json: expected title as text, found another type; restore"),
        ({"code_file": ["a"]}, "kernel-metadata.json: expected code_file as text, found another type; restore"),
        ({"dataset_sources": [5]}, "kernel-metadata.json: expected dataset_sources as a list of texts, found another"),
        ({"competition_sources": "digit-recognizer"}, "expected competition_sources as a list of texts, found another"),
        ({"keywords": {"a": 1}}, "expected keywords as a list of texts, found another"),
    ],
    ids=str,
)
def test_invalid_metadata_are_refused(ready, change, message):
    files.write_json(kernel.METADATA, files.read_json(kernel.METADATA) | change)
    assert message in push_and_fail()
    assert ready.kernels.versions == {}


@pytest.mark.parametrize("name", ["id", "title", "code_file"])
def test_missing_metadata_are_named(ready, run_command, name):
    metadata = files.read_json(kernel.METADATA)
    del metadata[name]
    files.write_json(kernel.METADATA, metadata)
    line = f"kernel-metadata.json: expected {name} as text, found none; restore the file from git"
    for command in ("push", "kernel-status", "kernel-output"):
        assert failed(run_command(command)) == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "kernel-metadata.json: expected a JSON object, found other JSON; restore the file from git"),
        ("{", "expected JSON in kernel-metadata.json, found other text (Expecting property name enclosed in double"),
        (None, "expected the file kernel-metadata.json, found none"),
    ],
)
def test_metadata_that_are_no_object_are_refused(ready, run_command, content, message):
    kernel.METADATA.unlink()
    if content:
        kernel.METADATA.write_text(content)
    assert message in failed(run_command("push"))


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Chiffres écrits à la main", "chiffres-ecrits-a-la-main"),
        ("Größe: ein Netz", "grosse-ein-netz"),
        ("Håndskrevne tall, ø og æ", "handskrevne-tall-o-og-ae"),
        ("手写数字 CNN", "shou-xie-shu-zi-cnn"),
        ("  Digits -- it's 99,9 %  ", "digits-it-s-999"),
    ],
)
def test_slug_of_a_title_is_the_one_that_the_client_makes(ready, title, slug):
    files.write_json(kernel.METADATA, files.read_json(kernel.METADATA) | {"title": title, "id": f"someone/{slug}"})
    push()
    assert list(ready.kernels.versions) == [slug]
    assert_pushed_once(ready)


def test_kernel_is_watched_and_fetched_at_the_address_that_kaggle_answers_with(ready):
    ready.kernels.saved_as = {NAME: "another-name"}
    lines = push()
    moved = f"Kaggle saved the kernel as {USERNAME}/another-name; change id and title in kernel-metadata.json, so that"
    assert lines[1].startswith(moved)
    assert lines[2] == f"version 1 is pushed: https://www.kaggle.com/code/{USERNAME}/another-name"
    assert_pushed_once(ready)


LOCK = """
import sys
from pathlib import Path
from digit_recognizer.files import locked

with locked(Path("kernel")):
    Path("held").touch()
    sys.stdin.read()
"""


@pytest.mark.parametrize("command", ["push", "kernel-output"])
def test_second_command_at_one_moment_names_the_first(ready, start_python, run_command, command):
    holder = start_python(LOCK)
    wait_until(Path("held").exists)
    line = failed(run_command(command))
    assert line.startswith(f"expected no other writer of kernel, found process {holder.pid}, which has been writing it")
    assert ready.requests == []
    holder.kill()
    holder.wait()
    push()
    assert_pushed_once(ready)


# Watching


@pytest.fixture
def running(ready):
    """A loopback Kaggle after a push whose watching ended while the kernel was running."""
    ready.kernels.polls_until_ended = 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "WATCH_SECONDS", 0)
        assert "version 1 is running after 0.0 hours; see" in push_and_fail()
    return ready


def test_running_kernel_is_watched_by_the_next_call(running):
    running.kernels.polls_until_ended = 5
    assert push()[0] == f"version 1 of {SLUG} is the same notebook; it is not run again"
    assert_pushed_once(running)


def test_running_kernel_with_other_settings_is_not_replaced(running):
    message = push_and_fail({"preset": "fast", "seed": 2})
    assert "found version 1 with other settings or code (running); wait, or stop it" in message
    assert len(running.kernels.versions[NAME]) == 1


@pytest.mark.parametrize("name", ["SaveKernel", "submission.csv"])
def test_killed_push_is_continued_by_the_next_call(ready, start_python, name):
    ready.fail(name, delay=30, obey=True)
    process = start_python(
        f"from digit_recognizer.competition.kernel import *; notebook.build = lambda _: {build_notebook(FAST)!r}\n"
        "push({}, Path('submissions'))"
    )
    wait_until(lambda: name in ready.requests)
    process.kill()
    process.wait()
    assert "pushing" not in push()[0]
    assert_pushed_once(ready)


@pytest.mark.parametrize(("end", "words"), [("ERROR", "error"), ("CANCEL_ACKNOWLEDGED", "cancel acknowledged")])
def test_failed_kernel_shows_the_end_of_its_log_and_is_pushed_again(ready, run_command, end, words):
    ready.kernels.failure, ready.kernels.end = "A cell failed.", end
    ready.kernels.log = [f"line {number}" for number in range(99)] + ["\x1b[31mValueError\x1b[0m: no"]
    result = run_command("push")
    assert failed(result) == (
        f"version 1 of {SLUG} ended with {words} (A cell failed.); the end of its log is above, all of it at {PAGE}"
    )
    lines = result.stdout.splitlines()
    assert lines[-25:] == [f"  line {number}" for number in range(75, 99)] + ["  ValueError: no"]
    assert "line 74" not in result.stdout
    ready.kernels.failure = None
    assert run_command("push").returncode == 0
    first, second = ready.kernels.versions[NAME]
    assert first["request"]["text"] == second["request"]["text"]


def test_invalid_output_says_how_to_run_the_kernel_again(ready):
    ready.kernels.output = {"__results__.html": b"<html>"}
    message = f"expected manifest.json in the output of {SLUG}, found __results__.html; see {PAGE}, or run `make push`"
    for _ in range(2):
        assert message in push_and_fail()
    assert len(ready.kernels.versions[NAME]) == 1
    push_and_fail(FAST | {"seed": 2})
    assert len(ready.kernels.versions[NAME]) == 2


def test_push_after_a_failed_download_fetches_the_output_again(ready):
    ready.fail("submission.csv", status=404)
    assert "the download of submission.csv failed" in push_and_fail()
    push()
    assert_pushed_once(ready)


def test_failure_while_watching_is_retried(ready):
    ready.kernels.polls_until_ended = 4
    ready.fail("GetKernelSessionStatus", status=503, times=2)
    ready.fail("GetKernelSessionStatus", reset=True)
    push()
    assert_pushed_once(ready)


def test_unchanged_status_is_printed_at_intervals(ready, clock, monkeypatch):
    monkeypatch.setattr(kernel, "time", clock)
    ready.kernels.polls_until_ended = 5
    assert sum(line.startswith("running, ") for line in push()) == 1
    monkeypatch.setattr(kernel, "REPORT_INTERVAL", datetime.timedelta(seconds=1))
    assert sum(line.startswith("running, ") for line in push({"preset": "fast", "seed": 2})) == 4


def test_kernel_status_prints_the_latest_version(ready, run_command):
    never = f"expected the kernel {SLUG}, found none that you may read; `make push` creates it"
    assert failed(run_command("kernel-status")) == never
    ready.kernels.failure = "A cell failed."
    push_and_fail()
    assert run_command("kernel-status").stdout == f"version 1 of {SLUG}: error (A cell failed.); {PAGE}\n"


def test_kernel_status_with_rejected_credentials(ready, run_command):
    ready.fail("GetKernelSessionStatus", status=401)
    assert "Kaggle rejected the token" in failed(run_command("kernel-status"))


# Kernels that really run


def test_notebook_without_a_kernelspec_fails(kaggle, monkeypatch):
    content = json.loads(build_notebook({}))
    del content["metadata"]["kernelspec"]
    monkeypatch.setattr(notebook, "build", lambda _: json.dumps(content))
    monkeypatch.setattr(kernel, "POLL", lambda _: kaggle.closing.wait(0.05) or 0)  # it takes real time
    lines = []
    with pytest.raises(UserError, match=r"version 1 of .* ended with error \(Your notebook was stopped"):
        kernel.push(FAST, Path("submissions"), say=lines.append)
    assert lines[-1] == "  ValueError: No kernel name found in notebook and no override provided."


@pytest.mark.slow
def test_pushed_notebook_equals_the_local_run(kaggle, command, demo_dir, project):
    """The demo's digits, with the rows of test.csv repeated until they are as many as Kaggle's."""
    header, *rows = (demo_dir / "test.csv").read_bytes().splitlines(keepends=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(demo_dir / "train.csv", "train.csv")
        archive.writestr("test.csv", header + b"".join(itertools.islice(itertools.cycle(rows), ROWS)))
    kaggle.archive = buffer.getvalue()
    with zipfile.ZipFile(buffer) as archive:
        archive.extractall(project / "data")
    assert len(rows) == demo.TEST_ROWS
    flags = ("--preset", "fast", "--epochs", "1", "--folds", "2", "--augment")
    variables = kaggle.environment | {"KAGGLE_API_TOKEN": TOKEN}
    for arguments in (("train", *flags), ("submission",), ("push", *flags)):
        result = command(*arguments, **variables)
        assert result.returncode == 0, result.stderr + result.stdout
    assert "kernel/output/submission.csv is byte for byte submissions/fast-seed0-" in result.stdout
    (version,) = kaggle.kernels.versions[NAME]
    assert not version["connections"]
