"""The command line as a user meets it."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest

from digit_recognizer import cli
from digit_recognizer.data import demo
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import sample_digits

STAGES = ("download", "train", "evaluate", "report", "compare", "submission", "submit", "demo", "predict")
FIGURES = ["accuracy.png", "loss.png", "confusion_matrix.png", "mistakes.png"]


def test_help_names_every_stage_and_answers_at_once(command):
    command("--help")  # the first run writes Python's bytecode
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = command("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # not the wall's clock, which a busy machine would slow
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert answer.returncode == 0
    assert all(stage in answer.stdout for stage in STAGES)
    assert min(times) < 0.5


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from digit_recognizer import cli\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'cv2', 'kaggle', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "--preset", "slow"), "expected a preset out of fast, single, best, got 'slow'"),
        (("train", "--epochs", "0"), "expected epochs 1 or more, got 0"),
        (("train",), "expected the competition's train.csv as data/train.csv, found none; run `make download`"),
        (("evaluate",), "expected a trained run in models, found none; run `make train`"),
        (("report",), "expected a trained run in models, found none; run `make train`"),
        (("compare", "a", "b"), "expected the run 'a' in models, found none; run `make train`, or name another RUN="),
        (("submission",), "expected a trained run in models, found none; run `make train`"),
        (("submit",), "expected a trained run in models, found none; run `make train`"),
    ],
)
def test_what_a_user_can_mend_is_one_line(command, arguments, line):
    answer = command(*arguments)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr == f"digit-recognizer: {line}\n"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A folder with the demo's data and a run trained on them for two epochs."""
    folder = tmp_path_factory.mktemp("small")
    demo.write_demo_data(folder / "data")
    script = Path(sys.executable).with_name("digit-recognizer")
    answer = subprocess.run(
        [script, "train", "--preset", "fast", "--epochs", "2", "--run", "small", "--validation", "0.2"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return folder, answer


def test_training_prints_lines_when_piped_and_a_table_at_the_end(small_run):
    _, answer = small_run
    lines = answer.stderr.splitlines()
    assert len(lines) == 2, answer.stderr  # nothing of TensorFlow's own
    assert lines[0].startswith("epoch 1/2  accuracy ")
    assert "validation accuracy" in lines[1]
    assert "images/s" in lines[1]
    assert "validation loss   validation accuracy" in answer.stdout
    assert "Validation accuracy" in answer.stdout
    assert "95% confidence interval" in answer.stdout
    assert "\x1b" not in answer.stdout + answer.stderr


def test_training_again_finds_the_run_finished(small_run, command):
    folder, _ = small_run
    options = ("--data-dir", folder / "data", "--models-dir", folder / "models", "--json")
    answer = command("train", "--preset", "fast", "--epochs", "2", "--run", "small", "--validation", "0.2", *options)
    assert answer.stderr == ""
    record = json.loads(answer.stdout)
    assert record["competition"] == "demo"
    assert record == json.loads((folder / "models" / "small" / "run.json").read_text())


def test_evaluation_draws_its_figures_and_prints_json_alone(small_run, command):
    folder, _ = small_run
    options = ("--data-dir", folder / "data", "--models-dir", folder / "models")
    answer = command("evaluate", *options, "--json")
    result = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert result["accuracy"]["rows"] == 288
    assert len(result["classes"]) == 10
    assert [Path(path).name for path in result["figures"]] == FIGURES
    assert all(cv2.imread(path) is not None for path in result["figures"])
    text = command("evaluate", *options).stdout
    assert f"{result['accuracy']['value']:.2%} (95% confidence interval" in text
    assert "precision" in text
    assert "Most frequent confusions" in text


def test_evaluation_on_other_data_is_refused(small_run, command, tmp_path):
    folder, _ = small_run
    demo.write_demo_data(tmp_path / "data")
    lines = (tmp_path / "data" / "train.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "data" / "train.csv").write_bytes(b"".join(lines[:-1]))
    answer = command("evaluate", "--models-dir", folder / "models")
    assert answer.returncode == 1
    assert answer.stderr == (
        "digit-recognizer: expected the train.csv of the run small, found another in data; name the run's DATA_DIR=\n"
    )


def test_a_demo_run_is_never_submitted(small_run, command):
    folder, _ = small_run
    options = ("--data-dir", folder / "data", "--models-dir", folder / "models", "--submissions-dir", "submissions")
    assert command("submission", *options).returncode == 0
    answer = command("submit", *options, KAGGLE_API_TOKEN="never-asked")  # noqa: S106
    assert answer.returncode == 1
    assert "can never be submitted" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_demo_runs_from_data_to_submission(command, tmp_path):
    answer = command("demo")
    assert answer.returncode == 0, answer.stderr
    assert "not the competition's data" in " ".join(answer.stdout.split())
    (record,) = (tmp_path / "demo" / "submissions").glob("*/record.json")
    assert json.loads(record.read_text())["competition"] == "demo"
    assert json.loads(record.read_text())["validation_accuracy"] > 0.95
    with record.with_name("submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["ImageId"]) for row in rows] == list(range(1, demo.TEST_ROWS + 1))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["demo"]


@pytest.fixture
def predict(command, trained, tmp_path):
    """Runs `predict` with a tiny run on a folder of a drawing, blank paper and a text that is called a picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "drawing.png"), sample_digits.draw_digits()[4])
    cv2.imwrite(str(folder / "blank.jpg"), np.full((50, 60, 3), 240, np.uint8))
    for name in ("text.png", "bomb.png", "cut.png"):
        (folder / name).write_bytes(hostile.HOSTILE[name])
    run = ("--models-dir", str(trained.parent), "--run", trained.name)
    return lambda *arguments: command("predict", *arguments, *run)


def test_predict_prints_json_and_nothing_else(predict, tmp_path):
    answer = predict("pictures/drawing.png", "pictures/blank.jpg", "--json")
    assert (answer.returncode, answer.stderr) == (0, "")
    drawing, blank = json.loads(answer.stdout)
    assert drawing["path"] == "pictures/drawing.png"
    assert all(set(digit) == {"digit", "probability", "box"} for digit in drawing["digits"])
    assert blank == {"path": "pictures/blank.jpg", "digits": [], "text": ""}
    assert not (tmp_path / "predictions").exists()


def test_predict_reads_on_after_a_bad_file_and_names_it_in_one_line(predict, tmp_path):
    answer = predict("pictures", "gone.png", "--expect", "4", "--output-dir", "out")
    assert answer.returncode == 1
    lines = answer.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        *("pictures/bomb.png", "pictures/cut.png", "pictures/text.png"),
        "gone.png",
    ]
    assert all(line.startswith("digit-recognizer: ") for line in lines)
    assert "pictures/blank.jpg" in answer.stdout
    assert "2 images" in answer.stdout
    assert {"blank.jpg.png", "drawing.png.png", "mistakes.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_predict_without_files_says_what_to_name(predict):
    answer = predict()
    assert answer.returncode == 1
    assert answer.stderr.startswith("digit-recognizer: expected pictures to read, received none")


def test_without_tensorboard_its_flag_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"expected the package tensorboard, .* run `make train TENSORBOARD=1`"):
        cli.train(preset="fast", tensorboard=True)


def test_an_interrupted_training_says_so_in_one_line(small_run, tmp_path):
    folder, _ = small_run
    script = Path(sys.executable).with_name("digit-recognizer")
    settings = "--preset=single", "--folds=2", "--epochs=1000"  # which are not over before the interruption
    training = subprocess.Popen(
        [script, "train", *settings, f"--data-dir={folder / 'data'}", f"--models-dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first = training.stderr.readline()  # of an epoch
    os.killpg(training.pid, signal.SIGINT)  # as a terminal does
    out, error = training.communicate(timeout=60)
    assert first.startswith("member ")
    assert out == ""
    assert [line for line in error.splitlines() if not line.startswith("member ")] == [
        "digit-recognizer: interrupted; what was finished is kept"
    ]
    assert training.returncode == 130
