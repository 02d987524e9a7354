"""The command line as a user runs it."""

import contextlib
import errno
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import hostile
import numpy as np
import psutil
import pytest
from waiting import wait_until

from digit_recognizer.handwriting import sample_digits

COMMANDS = "download", "train", "evaluate", "report", "compare", "submission", "submit", "demo", "predict", "draw"
FIGURES = ["accuracy.png", "loss.png", "confusion_matrix.png", "mistakes.png"]
SCRIPT = Path(sys.executable).with_name("digit-recognizer")
TRAIN = "train", "--preset=fast", "--epochs=2", "--validation=0.2", "--run=quick"


@pytest.fixture
def on_small_run(small_run, run, tmp_path):
    """Run a command in a folder with a copy of the small run."""
    shutil.copytree(small_run, tmp_path, symlinks=True, dirs_exist_ok=True)
    return run


@pytest.mark.parametrize("options", [(), ("--help",)])
def test_help_lists_the_commands(run, options):
    answer = run(*options)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert all(name in answer.stdout for name in COMMANDS)
    assert "..." not in answer.stdout.partition("Commands:")[2]  # no summary is cut


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from digit_recognizer import cli\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'cv2', 'kaggle', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("options", [["--help"], ["kernel"], ["demo"]], ids=str)
def test_a_closed_pipe_ends_a_command_silently(clean_environment, tmp_path, options):
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [SCRIPT, *options], cwd=tmp_path, env=clean_environment, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (1, "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "kernel/file"),
            "kernel/file: No space left on device; free some space",
        ),
        (ConnectionError("http://host/?key=secret"), "a file: ConnectionError; check the file and its folder"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line_without_addresses(run, monkeypatch, error, message):
    monkeypatch.setattr("digit_recognizer.competition.notebook.build", mock.Mock(side_effect=error))
    answer = run("kernel")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"digit-recognizer: could not read or write {message}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "--seed=abc"), "Invalid value for '--seed': 'abc' is not a valid integer. (see --help)"),
        (("kaggle",), "No such command 'kaggle'. (see --help)"),
        (("train", "--epochs=0"), "expected epochs 1 or more, got 0"),
        (
            ("train", "--run=../a"),
            "expected a name of a folder as RUN=, received '../a'; use letters, digits and hyphens",
        ),
        (("train",), "expected the competition's format as data/train.csv, found no such file; run `make download`"),
        (("compare",), "name two or more runs to compare, not 0: make compare RUNS='fast-* single-*'"),
        (("compare", "a", "b"), "expected the run 'a' in models, found none; run `make train`, or pass RUN="),
        (("predict",), "no image files to read; name files or folders (make predict IMAGES=)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_user_error_is_one_line(run, arguments, line):
    answer = run(*arguments)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", f"digit-recognizer: {line}\n")


def test_a_training_prints_lines_and_is_not_repeated(command, run, demo_dir, tmp_path):
    (tmp_path / "data").symlink_to(demo_dir)
    answer = command(*TRAIN)
    start, *epochs = answer.stderr.splitlines()  # and no messages of TensorFlow
    assert start == "fast: 1 network, 2 epochs on 1,149 images"
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert "validation accuracy" in epochs[1]
    accuracy, end = answer.stdout.splitlines()
    assert accuracy.startswith("Validation accuracy ")
    assert "95% confidence interval" in accuracy
    assert end.startswith("Trained in ")
    assert end.endswith(" s: models/quick")

    record = json.loads((tmp_path / "models" / "quick" / "run.json").read_text())
    again = run(*TRAIN)
    finished = end.replace("Trained", f"Finished on {record['finished_at']}, trained")
    assert (again.stdout.splitlines(), again.stderr) == ([accuracy, finished], "")


NEVER_ENDS = """
import signal, sys
from pathlib import Path
from digit_recognizer.__main__ import main
from digit_recognizer.training import ensemble

def wait(*_):
    Path("begun").touch()
    signal.pause()

ensemble.train_to_files = wait
if "submission" in sys.argv:
    from digit_recognizer.model import prediction
    prediction.make_predictor = lambda *_, **__: wait
if __name__ == "__main__":
    main()
"""
ENDLESS = sys.executable, "program.py"
TRAIN_FOLDS = *ENDLESS, "train", "--preset=fast", "--folds=2"
TRAIN_ONE = *ENDLESS, "train", "--preset=fast", "--folds=1"
REAL = SCRIPT, "train", "--epochs=40"


@pytest.fixture
def start(clean_environment, on_small_run, tmp_path):
    """Start a command with handlers of SIGHUP and SIGINT; it is killed at the end of the test."""
    (tmp_path / "program.py").write_text(NEVER_ENDS)
    processes = []

    def start_process(command, handler=signal.SIG_DFL, prepare=lambda: None, **files):
        def prepare_all():
            signal.signal(signal.SIGHUP, handler)
            signal.signal(signal.SIGINT, handler)
            prepare()

        options = {"cwd": tmp_path, "env": clean_environment, "start_new_session": True, "preexec_fn": prepare_all}
        processes.append(process := psutil.Popen(command, **options, **files))
        wait_until(lambda: len(process.children()) > 1 if command == REAL else (tmp_path / "begun").exists())
        return process, process.children(recursive=True)

    yield start_process
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "ignored", "sent"),
    [
        (TRAIN_FOLDS, [], signal.SIGINT),
        (TRAIN_ONE, [], signal.SIGHUP),
        pytest.param(TRAIN_ONE, [signal.SIGHUP, signal.SIGINT], signal.SIGTERM, marks=pytest.mark.slow),  # as by nohup
        pytest.param(REAL, [], signal.SIGINT, marks=pytest.mark.slow),  # while TensorFlow is imported
    ],
    ids=["Ctrl+C", "SIGHUP", "nohup", "import"],
)
def test_an_interrupted_training_prints_one_line_and_leaves_no_process(start, command, ignored, sent):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    training, children = start(command, signal.SIG_IGN if ignored else signal.SIG_DFL, **pipes)
    for number in (*ignored, sent):
        os.killpg(training.pid, number) if number == signal.SIGINT else training.send_signal(number)
    out, error = training.communicate(timeout=60)
    assert (training.returncode, out) == (128 + sent, "")
    begin, end = error.splitlines()
    assert " network" in begin
    assert end == f"digit-recognizer: ended by {sent.name}; run the same command again to go on from there"
    assert children
    assert not psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.slow
def test_an_interruption_at_any_moment_is_one_line(clean_environment, on_small_run, tmp_path):
    moments = np.random.default_rng(0).uniform(1, 20, 30)  # seconds: the kit's imports, the training, after its end
    for number, moment in enumerate(moments):
        command = SCRIPT, "train", "--preset=fast", "--epochs=1", f"--run=run{number}"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = psutil.Popen(command, cwd=tmp_path, env=clean_environment, start_new_session=True, **pipes)
        children = []
        with contextlib.suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
            process.wait(moment)
        with contextlib.suppress(psutil.NoSuchProcess):
            children = process.children(recursive=True)
            process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        lines = [line for line in error.splitlines() if not line.startswith(("fast: ", "epoch "))]
        assert (process.returncode, len(lines)) in ((0, 0), (128 + signal.SIGINT, 1)), (moment, error)
        assert not psutil.wait_procs(children, timeout=20)[1]


IN_CALLBACK = """
import ctypes, os, signal, time
from digit_recognizer import pipeline
from digit_recognizer.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # also below nohup

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)

def train(*_, **__):
    callback()
    time.sleep(60)

pipeline.train = train
main()
"""


def test_an_interruption_inside_a_native_callback_is_not_lost(clean_environment, tmp_path):
    command = sys.executable, "-c", IN_CALLBACK, "train"
    answer = subprocess.run(command, cwd=tmp_path, env=clean_environment, capture_output=True, text=True, timeout=50)
    line = "digit-recognizer: ended by SIGINT; run the same command again to go on from there\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (128 + signal.SIGINT, "", line)


@pytest.mark.slow
def test_a_closed_terminal_ends_a_training_with_its_workers(start):
    terminal, end = pty.openpty()
    take_terminal = partial(fcntl.ioctl, 0, termios.TIOCSCTTY)
    training, children = start(TRAIN_FOLDS, prepare=take_terminal, stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.close(terminal)
    assert not psutil.wait_procs([training, *children], timeout=60)[1]


def test_evaluation_draws_figures_and_prints_tables_or_json(on_small_run):
    answer = on_small_run("evaluate", "--json")
    result = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert result["accuracy"]["rows"] == 288
    assert [Path(path).name for path in result["figures"]] == FIGURES
    assert all(cv2.imread(path) is not None for path in result["figures"])
    text = on_small_run("evaluate").stdout
    assert text.startswith(f"small: validation accuracy {result['accuracy']['value']:.2%} (95% confidence interval")
    lines = [line.split() for line in text.splitlines()]
    assert ["9", *(f"{result['classes'][9][name]:.2%}" for name in ("precision", "recall", "f1")), "29"] in lines
    assert "Most frequent confusions" in text
    assert text.endswith(f"Figures in models/small/figures: {', '.join(FIGURES)}\n")


def test_without_another_run_that_of_the_demo_is_evaluated_and_reported(small_run, run, monkeypatch, tmp_path):
    shutil.copytree(small_run, tmp_path / "demo", symlinks=True)
    for name, output in (("evaluate", "models/small/figures/mistakes.png"), ("report", "reports/small/report.html")):
        monkeypatch.chdir(tmp_path)
        answer = run(name)
        assert answer.stderr == "there is no other run than that of demo/, where paths begin\n"
        assert (tmp_path / "demo" / output).exists()
    assert answer.stdout == "Wrote reports/small/report.html and reports/small/report.md\n"


def test_a_report_on_other_data_is_an_error(on_small_run, small_run, tmp_path):
    shutil.copytree(small_run / "data", tmp_path / "other")
    lines = (tmp_path / "other" / "test.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "other" / "test.csv").write_bytes(b"".join(lines[:-1]))
    assert on_small_run("report", "--data-dir=other").stderr == (
        "digit-recognizer: other has another test.csv than the run small; pass the run's DATA_DIR=\n"
    )


def test_submissions_for_another_test_csv_have_their_own_folder(on_small_run, tmp_path):
    lines = (tmp_path / "data" / "test.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "more.csv").write_bytes(b"".join(lines[:11]))
    assert on_small_run("submission").stdout == "Wrote submissions/small/submission.csv\n"
    answer = on_small_run("submission", "--test-file", "more.csv")
    (other,) = (path for path in (tmp_path / "submissions").glob("*/") if path.name != "small")
    assert answer.stdout == f"Wrote submissions/{other.name}/submission.csv\n"
    own = (tmp_path / "submissions" / "small" / "submission.csv").read_text().splitlines()
    assert (other / "submission.csv").read_text().splitlines() == own[:11]


@pytest.mark.slow
def test_a_submission_killed_while_predicting_is_written_by_the_next_command(start, run, tmp_path):
    folder = tmp_path / "submissions" / "small"
    start((*ENDLESS, "submission"))[0].kill()
    assert list(folder.iterdir()) == []
    assert run("submission").returncode == 0
    killed = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    assert run("submission").returncode == 0
    assert killed == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["submissions", "submissions/small"])
def test_a_file_in_place_of_a_folder_is_an_error_before_the_predictions(on_small_run, monkeypatch, tmp_path, name):
    monkeypatch.setattr("digit_recognizer.pipeline.predict", lambda *_: pytest.fail("predicted"))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    answer = on_small_run("submission")
    message = f"could not read or write {name}: File exists; move away what is in its place"
    assert (answer.returncode, answer.stderr) == (1, f"digit-recognizer: {message}\n")


def test_a_submission_repeats_the_warnings_of_the_run(on_small_run, tmp_path):
    path = tmp_path / "models" / "small" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["the first", "the second"]}))
    answer = on_small_run("submission")
    assert answer.stderr.startswith("warning: the first\nwarning: the second\n")


@pytest.mark.slow
def test_the_demo_runs_all_stages_and_ends_with_the_report(command, tmp_path):
    answer = command("demo")
    assert answer.returncode == 0, answer.stderr
    assert "not the competition's data" in " ".join(answer.stdout.split())
    (record,) = (tmp_path / "demo" / "submissions").glob("*/record.json")
    accuracy = json.loads(record.read_text())["validation_accuracy"]
    assert accuracy > 0.95
    assert f"Validation accuracy {accuracy:.2%}" in answer.stdout
    assert "Accuracy 100.00% (95% confidence interval" in answer.stdout  # of the drawn digits
    assert "Annotated images of 10 of 10 files: predictions" in answer.stdout
    report = f"demo/reports/{record.parent.name}/report.html"
    assert (tmp_path / report).exists()
    assert f"\nOpen {report} in a browser.\n" in answer.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"home", "demo"}


@pytest.fixture
def predict(run, tmp_path):
    """Run `predict` in a folder with pictures: a drawing, blank paper, and files that are none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "drawing.png"), sample_digits.draw_digits()[4])
    cv2.imwrite(str(folder / "blank.jpg"), np.full((50, 60, 3), 240, np.uint8))
    for name in ("text.png", "bomb.png", "cut.png"):
        (folder / name).write_bytes(hostile.HOSTILE[name])
    return partial(run, "predict")


def test_predict_prints_only_json(predict, tmp_path):
    answer = predict("pictures/drawing.png", "pictures/blank.jpg", "--json")
    assert (answer.returncode, answer.stderr) == (0, "")
    result = json.loads(answer.stdout)
    drawing, blank = result["images"]
    assert result["networks"].startswith("the network of the package")
    assert (drawing["path"], drawing["text"]) == ("pictures/drawing.png", "4")
    assert all(set(digit) == {"digit", "probability", "box"} for digit in drawing["digits"])
    assert blank == {"path": "pictures/blank.jpg", "pages": 1, "text": "", "digits": []}
    assert not (tmp_path / "predictions").exists()
    (drawing,) = json.loads(predict("pictures/drawing.png", "--json", "--refuse=1").stdout)["images"]
    assert drawing["digits"] == []


def test_predict_continues_after_an_unreadable_file_and_reports_it(predict, tmp_path):
    for number in range(11):
        (tmp_path / "pictures" / f"{number:02}.txt").touch()
    answer = predict("pictures", "gone.png", "--expect", "4")
    skipped, *errors = answer.stderr.splitlines()
    assert skipped == f"skipped 11 files that are not images: {', '.join(f'{n:02}.txt' for n in range(10))}, ..."
    assert answer.returncode == 1
    names = "pictures/bomb.png", "pictures/cut.png", "pictures/text.png", "gone.png"
    assert [line.split(": ")[:2] for line in errors] == [["digit-recognizer", name] for name in names]
    assert "pictures/blank.jpg" in answer.stdout
    assert "Accuracy 50.00% " in answer.stdout
    assert answer.stdout.endswith("Annotated images of 2 of 2 files: predictions\n")


def test_predict_prints_each_file_on_one_line_with_escapes(predict, monkeypatch, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    long = "long " * 20 + "[red].png"
    for name in (b"caf\xe9 4.png", b"a\x1b[31m\n.png", os.fsencode(long)):
        shutil.copy(tmp_path / "pictures" / "drawing.png", folder / os.fsdecode(name))
    (folder / "broken\x1b.png").touch()
    answer = predict("odd")
    lines = [line.split("  ")[1] for line in answer.stdout.splitlines() if line.startswith("  odd/")]
    assert lines == [r"odd/a\x1b[31m\n.png", r"odd/caf\xe9 4.png", f"odd/{long}"]
    assert answer.stderr.startswith(r"digit-recognizer: odd/broken\x1b.png: expected an image")
    result = predict("odd", "--json").stdout
    assert result.isascii()
    paths = [os.fsencode(image["path"]) for image in json.loads(result)["images"]]
    assert sorted(paths) == sorted(os.fsencode(path.relative_to(tmp_path)) for path in folder.glob("*[!\x1b].png"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert f"odd/{long}" in predict("odd").stdout


@pytest.mark.slow
def test_predict_prints_names_in_every_encoding(command, tmp_path):
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((50, 60, 3), 240, np.uint8))
    (tmp_path / "blank.png").rename(tmp_path / os.fsdecode(b"\xc3\xa9\xe9.png"))
    answer = command("predict", ".", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert r"| \xe9\xe9.png" in answer.stdout
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["001-\u00e9_.png"]


def test_predict_prints_all_answers_before_it_draws(predict, tmp_path):
    (tmp_path / "predictions").touch()
    answer = predict("pictures/drawing.png", "pictures/blank.jpg")
    message = "could not read or write predictions: File exists; move away what is in its place"
    assert (answer.returncode, answer.stderr) == (1, f"digit-recognizer: {message}\n")
    assert all(name in answer.stdout for name in ("pictures/drawing.png", "pictures/blank.jpg"))


def test_a_trained_run_reads_and_without_one_the_network_of_the_package(on_small_run, tmp_path):
    sample_digits.write_digits(tmp_path / "drawings")
    assert "\nRead by small\n" in on_small_run("predict", "drawings").stdout
    shutil.rmtree(tmp_path / "models" / "small")
    answer = on_small_run("predict", "drawings")
    assert "\nRead by the network of the package (single, validation accuracy 99." in answer.stdout
    assert "\nAccuracy 100.00% " in answer.stdout
