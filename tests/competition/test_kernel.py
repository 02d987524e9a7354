"""Pushing, watching and fetching a kernel: the real client against a loopback Kaggle."""

import datetime
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from kaggle_server import ROWS, TOKEN, USERNAME
from test_client import failed
from test_notebook import ROOT
from test_submit import KilledError, wait_until

from digit_recognizer import files
from digit_recognizer.competition import client, kernel, kernel_output, notebook, submission
from digit_recognizer.data import demo
from digit_recognizer.errors import UserError

NAME = "digit-recognizer-a-small-residual-cnn"
SLUG = f"{USERNAME}/{NAME}"
PAGE = f"https://www.kaggle.com/code/{SLUG}"
RUN = "fast-seed0-abc123"
FAST = {"preset": "fast", "seed": 1}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with what the commands need of the repository."""
    for path in (kernel.METADATA, kernel.README):
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernel, "FIRST_POLL_SECONDS", 0.01)
    return tmp_path


@pytest.fixture
def variables(kaggle):
    return kaggle.environment | {"KAGGLE_API_TOKEN": TOKEN}


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 10, ROWS)


def make_output(labels, folder, *, left_out=()):
    """The files of a kernel that has succeeded."""
    record = {
        "run": RUN,
        "competition": "digit-recognizer",
        "config": {"preset": "fast", "folds": 2},
        "git_commit": None,
        "data": {},
        "versions": {},
        "finished_at": "2026-01-01T00:00:00+00:00",
        "scores": {"validation_accuracy": 0.9878},
        "left_out": list(left_out),
    }
    submission.write_submission(folder / "submission.csv", labels)
    made = {
        "submission.csv": (folder / "submission.csv").read_bytes(),
        f"models/{RUN}/run.json": json.dumps(record).encode(),
        **{f"models/{RUN}/member-{index}/model.keras": bytes([index]) * 5000 for index in range(6)},
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    return made | {"manifest.json": json.dumps({"run": RUN, "files": hashes}).encode(), "__results__.html": b"<html>"}


@pytest.fixture
def ready(kaggle, labels, tmp_path_factory):
    """The loopback Kaggle, where kernels are not run but make a good output."""
    kaggle.kernels.output = make_output(labels, tmp_path_factory.mktemp("made"))
    return kaggle


def push(settings=FAST):
    """Pushes; returns what was said."""
    lines = []
    kernel.push(settings, Path("submissions"), say=lines.append)
    return lines


def assert_pushed_once(kaggle):
    assert [len(versions) for versions in kaggle.kernels.versions.values()] == [1]
    assert (kernel_output.OUTPUT / "submission.csv").read_bytes() == kaggle.kernels.output["submission.csv"]


# Pushing


def test_a_push_ends_with_the_output(ready, labels):
    ready.kernels.polls_until_running, ready.kernels.polls_until_ended = 2, 3
    local = Path("submissions") / RUN / "submission.csv"
    submission.write_submission(local, labels)
    lines = push()
    after = r"0:00:0\d after the push"
    patterns = [
        f"pushing {SLUG}",
        f"version 1 is pushed: {PAGE}",
        f"queued, {after}",
        f"running, {after}",
        f"complete, {after}",
        "fetched 8 files into kernel/output, each as the kernel wrote it",
        f"{RUN}: validation accuracy 0.9878",
        f"kernel/output/submission.csv is byte for byte {local}",
    ]
    assert len(lines) == len(patterns)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)), lines
    assert_pushed_once(ready)
    fetched = {
        path.relative_to(kernel_output.OUTPUT).as_posix() for path in kernel_output.OUTPUT.rglob("*") if path.is_file()
    }
    assert fetched == ready.kernels.output.keys() - {"__results__.html"} | {"kernel.log"}
    assert not list(Path("kernel").glob(".output*"))
    assert [item.ref for item in client.connect().kernels_list(mine=True)] == [SLUG]


def test_what_is_pushed_is_the_tracked_notebook_but_for_its_settings(ready):
    before = {path: path.read_bytes() for path in (kernel.METADATA, kernel.README)}
    push()
    (version,) = ready.kernels.versions[NAME]
    request = version["request"]
    assert (request["isPrivate"], request["enableGpu"], request["enableInternet"]) == (True, True, False)
    assert (request["language"], request["kernelType"]) == ("python", "notebook")
    assert request["competitionDataSources"] == ["digit-recognizer"]
    pushed = nbformat.reads(request["text"], as_version=4)
    tracked = nbformat.read(ROOT / kernel.NOTEBOOK, as_version=4)
    changed = [
        cell.source for cell, other in zip(pushed.cells, tracked.cells, strict=True) if cell.source != other.source
    ]
    assert len(changed) == 1
    assert changed[0].startswith('PRESET = "fast"')
    assert "SEED = 1 " in changed[0]
    assert pushed.metadata.kernelspec.name == "python3"
    assert {path: path.read_bytes() for path in before} == before


def test_a_finished_kernel_is_pushed_again_when_asked(ready):
    push()
    push()
    assert len(ready.kernels.versions[NAME]) == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": True}, {"delay": 3}, {"content": b"<html>"}], ids=str)
def test_a_push_whose_answer_is_lost_is_found(ready, monkeypatch, fault):
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.5))
    ready.fail("SaveKernel", obey=True, **fault)
    push()
    assert_pushed_once(ready)
    assert ready.requests.count("SaveKernel") == 1


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}], ids=str)
def test_a_push_that_did_not_arrive_is_made_by_the_next_command(ready, fault):
    ready.fail("SaveKernel", **fault)
    with pytest.raises(UserError, match="it is not there yet: run the command again, it looks before it pushes"):
        push()
    assert ready.kernels.versions == {}
    push()
    assert_pushed_once(ready)


def test_an_earlier_version_is_not_taken_for_the_push_that_did_not_arrive(ready):
    push()
    ready.fail("SaveKernel", status=503)
    with pytest.raises(UserError, match="it is not there yet"):
        push()
    push()
    assert len(ready.kernels.versions[NAME]) == 2


def test_too_many_requests_are_passed_over(ready):
    ready.fail("SaveKernel", status=429, headers={"Retry-After": "0"})
    push()
    assert_pushed_once(ready)


def refusals():
    """What Kaggle can answer to a push, and what the user reads."""
    return {
        "session limit": (
            {"status": 200, "body": {"error": "Maximum batch GPU session count of 2 reached."}},
            "Kaggle did not take the kernel: Maximum batch GPU session count of 2 reached.; sessions that run are",
        ),
        "another error": (
            {"status": 200, "body": {"error": "Kernel not found"}},
            "did not take the kernel: Kernel not",
        ),
        "competition": (
            {"status": 200, "body": {"versionNumber": 1, "invalidCompetitionSources": ["digit-recognizer"]}},
            f"took the kernel without the competition sources digit-recognizer; stop it at {PAGE}, accept the competit",
        ),
        "tags": ({"status": 200, "body": {"versionNumber": 1, "invalidTags": ["x"]}}, "without the tags x"),
        "models": ({"status": 200, "body": {"versionNumber": 1, "invalidModelSources": ["x"]}}, "the model sources x"),
        "401": ({"status": 401}, "does not accept the token in KAGGLE_API_TOKEN"),
        "403": (
            {"status": 403},
            "the push with 403 (scripted 403); Kaggle lends GPUs to accounts with a verified phone",
        ),
        "409": ({"status": 409}, "the push with 409 (scripted 409); another kernel has this title, or this id another"),
        "old 409": (
            {"status": 200, "body": {"code": 409, "message": "slug taken"}},
            "the push with 409 (slug taken); another kernel has this title",
        ),
        "400": ({"status": 400}, "Kaggle answered the push with 400 (scripted 400)"),
    }


@pytest.mark.parametrize("name", refusals())
def test_a_refused_push_fails_loudly(ready, name):
    fault, message = refusals()[name]
    ready.fail("SaveKernel", **fault)
    with pytest.raises(UserError) as caught:
        push()
    assert message in str(caught.value)
    assert ready.kernels.versions == {}
    push()  # nothing is in the way of the next try
    assert_pushed_once(ready)


def test_a_title_that_another_kernel_has_is_a_conflict(ready):
    ready.kernels.versions["older"] = [
        {"title": "Digit Recognizer: a small residual CNN", "status": "COMPLETE", "request": {}}
    ]
    with pytest.raises(UserError, match=r"the push with 409 \(The requested title is already in use"):
        push()


def test_too_many_running_sessions_are_told(ready):
    ready.kernels.versions["older"] = [{"title": "Older", "status": "RUNNING"}, {"title": "Older", "status": "QUEUED"}]
    with pytest.raises(UserError, match="Maximum batch GPU session count of 2 reached"):
        push()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"title": "Another title"},
            "expected the id .../another-title, which Kaggle makes of the title",
        ),
        ({"title": "Abc", "id": "x/abc"}, "kernel-metadata.json: Title must be at least five characters"),
        ({"language": "perl"}, "kernel-metadata.json: A valid language must be specified in the metadata"),
    ],
    ids=str,
)
def test_metadata_that_kaggle_would_not_take_are_refused(ready, change, message):
    files.write_json(kernel.METADATA, files.read_json(kernel.METADATA) | change)
    with pytest.raises(UserError) as caught:
        push()
    assert message in str(caught.value)
    assert ready.kernels.versions == {}


def test_wrong_credentials_are_told_before_anything_else(ready, command, variables):
    line = failed(command("push", **variables | {"KAGGLE_API_TOKEN": "wrong"}))
    assert "Kaggle does not accept the token in KAGGLE_API_TOKEN" in line


# Watching


def test_a_running_kernel_of_other_settings_is_not_pushed_over(ready):
    ready.kernels.polls_until_ended = 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "WATCH_SECONDS", 0)
        with pytest.raises(UserError, match=r"expected the end of version 1 within 0.0 hours, found it running; look"):
            push()
    with pytest.raises(UserError, match=r"found version 1 with other settings or code \(running\); wait for its end"):
        push({"preset": "fast", "seed": 2})
    assert len(ready.kernels.versions[NAME]) == 1


def test_the_running_kernel_is_found_without_any_file_of_ours(ready):
    ready.kernels.polls_until_ended = 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "WATCH_SECONDS", 0)
        with pytest.raises(UserError):
            push()
    kernel.STATE.unlink()
    ready.kernels.polls_until_ended = 0
    ready.kernels.versions[NAME][0]["status"] = "QUEUED"
    ready.kernels.polls_until_running = 10  # it is still queued when it is looked for
    assert push()[0] == f"version 1 of {SLUG} is this very notebook; watching it"
    assert_pushed_once(ready)


@pytest.mark.parametrize("moment", ["SaveKernel", "watching", "submission.csv"])
def test_a_killed_push_is_taken_up_by_the_next_one(ready, clean_environment, variables, project, moment):
    if moment == "watching":
        ready.kernels.polls_until_ended = 10**6
    else:
        ready.fail(moment, delay=30, obey=True)
    script = Path(sys.executable).with_name("digit-recognizer")
    command = [script, "push", "--preset", "fast", "--seed", "1"]
    environment = clean_environment | variables
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) as process:
        if moment == "watching":
            wait_until(lambda: ready.requests.count("GetKernelSessionStatus") >= 3)
        else:
            wait_until(lambda: moment in ready.requests)
        process.kill()
    ready.kernels.polls_until_ended = 0
    assert "pushing" not in push()[0]
    assert_pushed_once(ready)


@pytest.mark.slow
def test_killed_at_any_step_and_started_again_it_pushes_once(ready):
    """A step is the time before or after any call of Kaggle and any writing of the state file."""
    for last in itertools.count():
        ready.kernels.versions.clear()
        kernel.STATE.unlink(missing_ok=True)
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

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "call", die_after(kernel.call))
            patch.setattr(kernel_output, "call", die_after(kernel_output.call))
            patch.setattr(files, "write_json", die_after(files.write_json))
            try:
                push()
                break
            except KilledError:
                pass
        ended = kernel.STATE.exists() and files.read_json(kernel.STATE)["ended"]
        if not ended:  # killed after the very end
            push()
        assert_pushed_once(ready)
    assert last > 15


@pytest.mark.parametrize(("end", "words"), [("ERROR", "error"), ("CANCEL_ACKNOWLEDGED", "cancel acknowledged")])
def test_a_kernel_that_fails_shows_the_end_of_its_log(ready, command, variables, end, words):
    ready.kernels.failure, ready.kernels.end = "A cell failed.", end
    ready.kernels.log = [f"line {number}" for number in range(99)] + ["\x1b[31mValueError\x1b[0m: no"]
    result = command("push", **variables)
    assert failed(result) == (
        f"digit-recognizer: version 1 of {SLUG} ended with {words} (A cell failed.); the end of its log stands above, "
        f"all of it at {PAGE}"
    )
    lines = result.stdout.splitlines()
    assert lines[-1] == "  ValueError: no"
    assert lines[-25] == "  line 75"
    assert "line 74" not in result.stdout
    ready.kernels.failure = None
    push()
    assert len(ready.kernels.versions[NAME]) == 2


def test_a_passing_failure_while_watching_is_passed_over(ready, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    ready.kernels.polls_until_ended = 4
    ready.fail("GetKernelSessionStatus", status=503, times=3)
    ready.fail("GetKernelSessionStatus", reset=True)
    push()
    assert_pushed_once(ready)


def test_an_unchanged_status_is_said_now_and_then(ready, monkeypatch):
    monkeypatch.setattr(kernel, "REPORT_SECONDS", -1)
    ready.kernels.polls_until_ended = 5
    assert sum(line.startswith("running, ") for line in push()) == 4


def test_the_time_counts_from_the_push(ready):
    ready.kernels.polls_until_ended = 10**6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "WATCH_SECONDS", 0)
        with pytest.raises(UserError):
            push()
    ready.kernels.polls_until_ended = 0
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2, minutes=3)
    files.write_json(kernel.STATE, files.read_json(kernel.STATE) | {"pushed_at": earlier.isoformat()})
    assert any(line.startswith("complete, 2:03:0") for line in push())


def test_the_status_is_told_alone(ready, command, variables):
    never = f"digit-recognizer: expected a kernel {SLUG}, found none that you may read; `make push` makes it"
    assert failed(command("kernel-status", **variables)) == never
    ready.kernels.failure = "A cell failed."
    with pytest.raises(UserError):
        push()
    result = command("kernel-status", **variables)
    assert result.stdout == f"version 1 of {SLUG}: error (A cell failed.); {PAGE}\n"


def test_a_status_that_the_credentials_do_not_allow_is_told(ready, command, variables):
    ready.fail("GetKernelSessionStatus", status=401)
    assert "Kaggle does not accept the token" in failed(command("kernel-status", **variables))


# Fetching


@pytest.fixture
def fetched(ready):
    """The loopback Kaggle behind a push, with an output in place."""
    push()
    return ready


def fetch():
    lines = []
    kernel.fetch_output(Path("submissions"), say=lines.append)
    return lines


@pytest.mark.parametrize("name", ["manifest.json", "submission.csv", "run.json", "model.keras"])
@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"content": b"<html>busy"}, {"cut": 10}, {"reset": True}, {"content": b""}], ids=str
)
def test_a_file_that_comes_wrong_once_is_fetched_again(ready, monkeypatch, name, fault):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    ready.fail(name, **fault)
    push()
    for path, content in ready.kernels.output.items():
        assert path == "__results__.html" or (kernel_output.OUTPUT / path).read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503, "body": {}}, "answered the download of submission.csv with 503; gave up after 8 attempts"),
        (
            {"content": b"<html>"},
            "what came of the download of submission.csv is another file; gave up after 8",
        ),
        ({"status": 403}, "with 403; its address has expired; run `make kernel-output`"),
        ({"status": 404}, "with 404; run `make kernel-output`"),
    ],
    ids=str,
)
def test_a_file_that_comes_wrong_each_time_is_never_taken(fetched, monkeypatch, fault, message):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    before = (kernel_output.OUTPUT / "submission.csv").read_bytes()
    fetched.fail("submission.csv", times=client.ATTEMPTS, **fault)
    with pytest.raises(UserError) as caught:
        fetch()
    assert message in str(caught.value)
    assert (kernel_output.OUTPUT / "submission.csv").read_bytes() == before
    assert not list(Path("kernel").glob(".output*"))


def test_an_output_without_its_files_is_told(ready, labels, tmp_path):
    ready.kernels.output = {"__results__.html": b"<html>"}
    with pytest.raises(UserError, match=r"expected manifest.json in the output of .*, found __results__.html; look at"):
        push()
    made = make_output(labels, tmp_path)
    ready.kernels.output = {name: content for name, content in made.items() if name != "submission.csv"}
    with pytest.raises(UserError, match=r"expected submission.csv in the output"):
        push()
    assert not kernel_output.OUTPUT.exists()


def test_an_output_with_a_wrong_submission_is_told(ready, labels, tmp_path):
    ready.kernels.output = make_output(labels[:-1], tmp_path)
    with pytest.raises(UserError, match=f"expected 28,000 predictions, found the end .*; look at {PAGE}"):
        push()
    assert not kernel_output.OUTPUT.exists()


@pytest.mark.parametrize("name", ["../../outside.txt", "/tmp/outside.txt"])  # noqa: S108
def test_a_file_outside_of_the_folder_is_not_written(ready, monkeypatch, name):
    monkeypatch.setattr(client, "BACKOFF", lambda _: 0)
    manifest = json.loads(ready.kernels.output["manifest.json"])
    manifest["files"][name] = hashlib.sha256(b"here").hexdigest()
    ready.kernels.output |= {name: b"here", "manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(UserError, match=r"what came of the download of manifest.json is another file"):
        push()
    assert not list(Path.cwd().parent.rglob("outside.txt"))


def test_different_answers_are_counted_and_named(fetched, labels):
    local = Path("submissions") / RUN / "submission.csv"
    changed = labels.copy()
    changed[[0, 9]] = (labels[[0, 9]] + 1) % 10
    submission.write_submission(local, changed)
    assert fetch()[-1] == (
        f"2 of 28,000 answers differ from {local}: ImageId 1 ({labels[0]}, here {changed[0]}), "
        f"10 ({labels[9]}, here {changed[9]})"
    )
    submission.write_submission(local, (labels + 1) % 10)
    assert fetch()[-1].startswith(f"28,000 of 28,000 answers differ from {local}: ImageId 1 ({labels[0]}, here ")
    assert fetch()[-1].endswith(" and 27,980 more")
    local.unlink()
    assert fetch()[-1].startswith(f"there is no {local} to compare it with; `make train submission`")


def test_members_that_the_kernel_had_no_time_for_are_told(ready, labels, tmp_path):
    ready.kernels.output = make_output(labels, tmp_path, left_out=[1])
    assert "the kernel had no time for 1 of its 2 members" in push()


def test_no_output_is_fetched_of_a_kernel_that_was_never_pushed(ready, command, variables):
    line = failed(command("kernel-output", **variables))
    assert "the list of output with 403 (Permission 'kernels.get' was denied); Kaggle has no kernel of this" in line


# Submitting


def test_what_the_kernel_made_is_submitted_once(fetched, command, variables, labels):
    fetched.labels = labels.tolist()
    result = command("submit", "--kernel", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == ("Public score 1.00000 (submission 30000001, validation accuracy 0.9878)")
    (at_kaggle,) = fetched.submissions
    assert at_kaggle["content"] == fetched.kernels.output["submission.csv"]
    record = submission.read_record(Path("submissions") / f"{RUN}-kernel")
    assert (record["status"], record["public_score"]) == ("complete", 1.0)
    (row,) = submission.read_ledger(Path("submissions/ledger.csv"))
    assert row["run"] == f"{RUN}-kernel"
    line = failed(command("submit", "--kernel", **variables))
    assert "found exactly those of submission 30000001" in line


def test_what_no_kernel_made_is_not_submitted(ready, command, variables):
    line = failed(command("submit", "--kernel", **variables))
    assert "expected a kernel's output in kernel/output, found none; run `make push`" in line
    push()
    path = kernel_output.OUTPUT / "submission.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    assert "expected kernel/output/submission.csv as the kernel wrote it" in failed(
        command("submit", "--kernel", **variables)
    )
    line = failed(command("submit", "--kernel", "--run", "x", **variables))
    assert "expected either the kernel's output or a run to submit, received both" in line
    assert ready.submissions == []


# Kernels that really run


def test_a_notebook_without_a_kernelspec_fails_and_says_so(kaggle, monkeypatch):
    build = notebook.build

    def build_without(*args):
        content = json.loads(build(*args))
        del content["metadata"]["kernelspec"]
        return json.dumps(content)

    monkeypatch.setattr(notebook, "build", build_without)
    lines = []
    with pytest.raises(UserError, match=r"version 1 of .* ended with error \(Your notebook was stopped"):
        kernel.push(FAST, Path("submissions"), say=lines.append)
    assert lines[-1] == "  ValueError: No kernel name found in notebook and no override provided."


@pytest.mark.slow
def test_a_pushed_notebook_runs_and_equals_the_local_run(kaggle, command, variables, demo_dir, project):
    """The demo's digits, those of test.csv repeated until they are as many as Kaggle's."""
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
    for arguments in (("train", *flags), ("submission",), ("push", *flags)):
        result = command(*arguments, **variables)
        assert result.returncode == 0, result.stderr + result.stdout
    assert "kernel/output/submission.csv is byte for byte submissions/fast-seed0-" in result.stdout
    (version,) = kaggle.kernels.versions[NAME]
    assert not version["connections"]
