"""The command line as a user runs it."""

import csv
import errno
import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import cv2
import hostile
import numpy as np
import psutil
import pytest

from digit_recognizer import cli
from digit_recognizer.data import demo
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import sample_digits

STAGES = ("download", "train", "evaluate", "report", "compare", "submission", "submit", "demo", "predict")
FIGURES = ["accuracy.png", "loss.png", "confusion_matrix.png", "mistakes.png"]
SCRIPT = Path(sys.executable).with_name("digit-recognizer")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EROFS, "Read-only file system; make it writable, or use another folder"),
        (errno.EACCES, "Permission denied; make it writable, or use another folder"),
        (errno.ENAMETOOLONG, "File name too long; use a shorter name"),
        (errno.ENOTDIR, "Not a directory; move away what is in its place"),
        (errno.EIO, "Input/output error; check the file and its folder"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line(run, monkeypatch, number, remedy):
    def fail():
        raise OSError(number, os.strerror(number), "kernel/file")

    monkeypatch.setattr("digit_recognizer.competition.kernel.build", fail)
    answer = run("kernel")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"digit-recognizer: could not read or write kernel/file: {remedy}\n"


def test_the_text_of_a_network_error_is_not_shown(run, monkeypatch):
    def fail():
        raise ConnectionError("http://storage.example/file?signature=secret")

    monkeypatch.setattr("digit_recognizer.competition.kernel.build", fail)
    assert run("kernel").stderr == (
        "digit-recognizer: could not read or write a file: ConnectionError; check the file and its folder\n"
    )


def test_a_full_disk_is_one_line_with_the_name_of_the_file(clean_environment, tmp_path):
    answer = subprocess.run(
        [SCRIPT, "kernel"],
        cwd=tmp_path,
        env=clean_environment | {"PYTHONDONTWRITEBYTECODE": "1"},  # Python would keep the cut bytecode
        preexec_fn=partial(
            resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)
        ),  # an error like that of a full disk
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    found = "could not read or write kernel/digit-recognizer.ipynb: File too large; check the file and its folder"
    assert answer.stderr == f"digit-recognizer: {found}\n"
    assert list((tmp_path / "kernel").iterdir()) == []


@pytest.mark.parametrize("options", [["--help"], ["kernel"], ["evaluate", "--json"]], ids=str)
def test_a_closed_pipe_ends_a_command_silently(small_run, clean_environment, tmp_path, options):
    (tmp_path / "models").symlink_to(small_run[0] / "models")
    (tmp_path / "data").symlink_to(small_run[0] / "data")
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [SCRIPT, *options], cwd=tmp_path, env=clean_environment, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (1, "")


def test_help_lists_every_stage_and_responds_at_once(command):
    command("--help")  # the first run compiles the modules
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = command("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # CPU time, not the wall time of a busy machine
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert answer.returncode == 0
    assert all(stage in answer.stdout for stage in STAGES)
    assert min(times) < 1


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
        (("train", "--preset", "slow"), "expected a preset out of fast, single, best, max, got 'slow'"),
        (("train", "--epochs", "0"), "expected epochs 1 or more, got 0"),
        (("train",), "expected the competition's train.csv as data/train.csv, found none; run `make download`"),
        (("train", "--seeds=9-0"), "expected seeds such as 0-9 or 1,4,7, at most 500, got '9-0'"),
        (("train", "--seeds=0-500"), "expected seeds such as 0-9 or 1,4,7, at most 500, got '0-500'"),
        (("train", "--seeds=a"), "expected seeds such as 0-9 or 1,4,7, at most 500, got 'a'"),
        (
            ("train", "--seeds=0-1", "--run=a"),
            "expected either --seeds, or --seed and --run, received both",
        ),
        (
            ("train", "--cores=2"),
            "expected --cores with --cluster only, received it without; one machine uses all",
        ),
        (
            ("train", "--cluster=auto", "--tensorboard"),
            "expected either --cluster or --tensorboard, received both; train on one machine for the logs",
        ),
        (("evaluate",), "expected a trained run in models, found none; run `make train`"),
        (("report",), "expected a trained run in models, found none; run `make train`"),
        (("compare", "a", "b"), "expected the run 'a' in models, found none; run `make train`, or pass another RUN="),
        (("submission",), "expected a trained run in models, found none; run `make train`"),
        (("submit",), "expected a trained run in models, found none; run `make train`"),
    ],
)
def test_a_user_error_is_one_line(run, arguments, line):
    answer = run(*arguments)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"digit-recognizer: {line}\n"


def test_seeds_are_ranges_and_single_ones():
    assert cli.parse_seeds("7, 1-3,2") == [1, 2, 3, 7]
    assert cli.parse_seeds("4294967295") == [4294967295]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A folder with the demo data and a run trained on them for two epochs, and the output of the command."""
    folder = tmp_path_factory.mktemp("small")
    demo.write_demo_data(folder / "data")
    answer = subprocess.run(
        [SCRIPT, "train", "--preset", "fast", "--epochs", "2", "--run", "small", "--validation", "0.2"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return folder, answer


@pytest.fixture
def on_small_run(small_run, run):
    """Run a command on the small run."""
    folder, _ = small_run
    return lambda name, *arguments: run(
        name, "--data-dir", folder / "data", "--models-dir", folder / "models", *arguments
    )


def test_training_prints_lines_when_piped_and_a_table_at_the_end(small_run):
    _, answer = small_run
    lines = answer.stderr.splitlines()
    assert len(lines) == 3, answer.stderr  # no messages from TensorFlow
    assert lines[0] == "fast: 1 network, 2 epochs on 1,149 images"
    assert lines[1].startswith("epoch 1/2  accuracy ")
    assert "validation accuracy" in lines[2]
    assert "images/s" in lines[2]
    assert "validation loss   validation accuracy" in answer.stdout
    assert "95% confidence interval" in answer.stdout
    assert "\x1b" not in answer.stdout + answer.stderr


def test_a_finished_run_is_not_trained_again(small_run, on_small_run):
    answer = on_small_run(
        "train", "--preset", "fast", "--epochs", "2", "--run", "small", "--validation", "0.2", "--json"
    )
    assert answer.stderr == ""
    record = json.loads(answer.stdout)
    assert record["competition"] == "demo"
    assert record == json.loads((small_run[0] / "models" / "small" / "run.json").read_text())


def test_evaluation_draws_figures_and_prints_tables_or_json(on_small_run):
    answer = on_small_run("evaluate", "--json")
    result = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert result["accuracy"]["rows"] == 288
    assert len(result["classes"]) == 10
    assert [Path(path).name for path in result["figures"]] == FIGURES
    assert all(cv2.imread(path) is not None for path in result["figures"])
    text = on_small_run("evaluate").stdout
    assert f"{result['accuracy']['value']:.2%} (95% confidence interval" in text
    assert "precision" in text
    assert "Most frequent confusions" in text


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_report_on_other_data_is_an_error(small_run, run, name, tmp_path):
    demo.write_demo_data(tmp_path / "data")
    lines = (tmp_path / "data" / name).read_bytes().splitlines(keepends=True)
    (tmp_path / "data" / name).write_bytes(b"".join(lines[:-1]))
    answer = run("report", "--models-dir", small_run[0] / "models")
    assert answer.returncode == 1
    assert answer.stderr == (
        f"digit-recognizer: expected the {name} of the run small, found another in data; pass the run's DATA_DIR=\n"
    )


def test_a_report_is_written_as_html_and_markdown(on_small_run, tmp_path):
    answer = on_small_run("report")
    assert answer.stdout == "Wrote reports/small/report.html and reports/small/report.md\n"
    text = (tmp_path / "reports" / "small" / "report.md").read_text()
    assert "digits drawn by this program" in text
    assert len((tmp_path / "reports" / "small" / "report.html").read_text()) > 100_000


def test_submissions_for_another_test_csv_have_their_own_folder(small_run, on_small_run, tmp_path):
    lines = (small_run[0] / "data" / "test.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "more.csv").write_bytes(b"".join(lines[:11]))
    assert on_small_run("submission").stdout == "Wrote submissions/small/submission.csv\n"
    answer = on_small_run("submission", "--test-file", tmp_path / "more.csv")
    (other,) = (path for path in (tmp_path / "submissions").glob("*/") if path.name != "small")
    assert answer.stdout == f"Wrote submissions/{other.name}/submission.csv\n"
    own = (tmp_path / "submissions" / "small" / "submission.csv").read_text().splitlines()
    assert (other / "submission.csv").read_text().splitlines() == own[:11]


PREDICT_FOR_EVER = """
import sys
from pathlib import Path
from digit_recognizer import cli
from digit_recognizer.model import prediction

def predict_for_ever(images):
    Path("predicting").touch()
    sys.stdin.read()

prediction.make_predictor = lambda networks: predict_for_ever
sys.argv = ["digit-recognizer", "submission", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.slow
def test_a_submission_killed_while_predicting_is_written_by_the_next_command(
    small_run, run, clean_environment, tmp_path
):
    shutil.copytree(small_run[0] / "models", tmp_path / "models", ignore=shutil.ignore_patterns("predictions"))
    options = f"--data-dir={small_run[0] / 'data'}", f"--models-dir={tmp_path / 'models'}"
    process = subprocess.Popen(
        [sys.executable, "-c", PREDICT_FOR_EVER, *options], cwd=tmp_path, env=clean_environment, stdin=subprocess.PIPE
    )
    with process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "predicting").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert list((tmp_path / "submissions" / "small").iterdir()) == []
    assert run("submission", *options).returncode == 0
    killed = {path.name: path.read_bytes() for path in (tmp_path / "submissions" / "small").iterdir()}
    shutil.rmtree(tmp_path / "models" / "small" / "predictions")
    shutil.rmtree(tmp_path / "submissions")
    assert run("submission", *options).returncode == 0
    assert killed == {path.name: path.read_bytes() for path in (tmp_path / "submissions" / "small").iterdir()}


@pytest.mark.parametrize("name", ["submissions", "submissions/small"])
def test_a_file_in_place_of_a_folder_is_an_error_before_the_predictions(on_small_run, monkeypatch, tmp_path, name):
    monkeypatch.setattr("digit_recognizer.pipeline.predict", lambda *_: pytest.fail("predicted"))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    answer = on_small_run("submission")
    assert answer.returncode == 1
    found = f"could not read or write {name}: File exists; move away what is in its place"
    assert answer.stderr == f"digit-recognizer: {found}\n"


def test_warnings_of_a_submission_are_lines_on_stderr(on_small_run, tmp_path):
    on_small_run("submission")
    path = tmp_path / "submissions" / "small" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["the first", "the second"]}))
    answer = on_small_run("submission")
    assert (answer.returncode, answer.stderr) == (0, "warning: the first\nwarning: the second\n")


def test_a_second_submission_of_a_run_predicts_nothing(on_small_run, monkeypatch, tmp_path):
    on_small_run("submission")
    first = (tmp_path / "submissions" / "small" / "submission.csv").read_bytes()
    (tmp_path / "submissions" / "small" / "submission.csv").unlink()
    monkeypatch.setattr("digit_recognizer.model.prediction.make_predictor", lambda *_: pytest.fail("predicted again"))
    on_small_run("submission")
    assert (tmp_path / "submissions" / "small" / "submission.csv").read_bytes() == first


def test_a_demo_run_is_never_submitted(on_small_run, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "unused")
    answer = on_small_run("submit", "--submissions-dir", "submissions")
    assert answer.returncode == 1
    assert "can never be submitted" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_demo_runs_all_stages(command, tmp_path):
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
    assert "`make draw`, and `make predict IMAGES=photo.jpg`" in answer.stdout


@pytest.fixture
def predict(run, trained, tmp_path):
    """Run `predict` with a tiny run, in a folder with pictures: a drawing, blank paper, and files that are none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "drawing.png"), sample_digits.draw_digits()[4])
    cv2.imwrite(str(folder / "blank.jpg"), np.full((50, 60, 3), 240, np.uint8))
    for name in ("text.png", "bomb.png", "cut.png"):
        (folder / name).write_bytes(hostile.HOSTILE[name])
    return lambda *arguments: run("predict", *arguments, "--models-dir", trained.parent, "--run", trained.name)


def test_predict_prints_only_json(predict, tmp_path):
    answer = predict("pictures/drawing.png", "pictures/blank.jpg", "--json")
    assert (answer.returncode, answer.stderr) == (0, "")
    result = json.loads(answer.stdout)
    drawing, blank = result["images"]
    assert result["networks"] == "tiny"
    assert drawing["path"] == "pictures/drawing.png"
    assert all(set(digit) == {"digit", "probability", "box"} for digit in drawing["digits"])
    assert blank == {"path": "pictures/blank.jpg", "pages": 1, "text": "", "digits": []}
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize(("refuse", "count"), [("0", 1), ("1", 0)])
def test_predict_leaves_out_digits_less_probable_than_asked(predict, refuse, count):
    (drawing,) = json.loads(predict("pictures/drawing.png", "--json", "--refuse", refuse).stdout)["images"]
    assert len(drawing["digits"]) == count


def test_predict_continues_after_an_unreadable_file_and_reports_it(predict, tmp_path):
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
    assert sorted(path.name[4:] for path in (tmp_path / "out").glob("0*")) == ["blank.png", "drawing.png"]
    assert answer.stdout.endswith(
        "Annotated images of 2 of 2 files: out\nThe mistakes in one image: out/mistakes.png\n"
    )
    answer = predict("pictures/blank.jpg", "--output-dir", "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [
        "001-blank.png"
    ]  # those of the earlier call are gone
    assert "mistakes" not in answer.stdout


def test_predict_names_the_files_of_a_folder_that_are_no_images(predict, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(11):
        (folder / f"{number:02}.txt").touch()
    (folder / ".DS_Store").touch()
    (tmp_path / "pictures" / "drawing.png").rename(folder / "scan.jfif")
    answer = predict("mixed", "--json")
    names = ", ".join(f"{number:02}.txt" for number in range(10))
    assert (answer.returncode, answer.stderr) == (
        0,
        f"skipped 11 files that are not images: {names} and 1 more\n",
    )
    assert [image["path"] for image in json.loads(answer.stdout)["images"]] == ["mixed/scan.jfif"]


def test_predict_prints_each_file_on_one_line_with_escapes(predict, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"caf\xe9 4.png", b"a\x1b[31m\n.png", b"long " * 20 + b"[red].png"):
        shutil.copy(tmp_path / "pictures" / "drawing.png", folder / os.fsdecode(name))
    (folder / "broken\x1b.png").touch()
    answer = predict("odd", "--output-dir", "out[/]")
    lines = [line.split("  ")[1] for line in answer.stdout.splitlines() if line.startswith("  odd/")]
    assert lines == [r"odd/a\x1b[31m\n.png", r"odd/caf\xe9 4.png", "odd/" + "long " * 20 + "[red].png"]
    assert answer.stdout.endswith("Annotated images of 3 of 3 files: out[/]\n")
    assert answer.stderr.startswith(r"digit-recognizer: odd/broken\x1b.png: expected an image")
    found = predict("odd", "--json")
    assert found.stdout.isascii()
    paths = [os.fsencode(one["path"]) for one in json.loads(found.stdout)["images"]]
    assert sorted(paths) == sorted(os.fsencode(path.relative_to(tmp_path)) for path in folder.glob("*[!\x1b].png"))


def test_predict_prints_names_in_every_encoding(command, trained, tmp_path):
    cv2.imwrite(str(tmp_path / "\u00e9.png"), np.full((50, 60, 3), 240, np.uint8))
    (tmp_path / "\u00e9.png").rename(tmp_path / os.fsdecode(b"\xc3\xa9\xe9.png"))
    settings = "predict", ".", f"--models-dir={trained.parent}", f"--run={trained.name}", "--output-dir=out"
    answer = command(*settings, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert r"| \xe9\xe9.png" in answer.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["001-\u00e9_.png"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_predict_prints_all_answers_before_it_draws(predict, tmp_path, form):
    (tmp_path / "occupied").touch()
    answer = predict("pictures/drawing.png", "pictures/blank.jpg", "--output-dir", "occupied", *form)
    assert answer.returncode == 1
    assert answer.stderr.splitlines() == [
        "digit-recognizer: could not read or write occupied: File exists; move away what is in its place"
    ]
    assert all(name in answer.stdout for name in ("pictures/drawing.png", "pictures/blank.jpg"))
    assert not form or len(json.loads(answer.stdout)["images"]) == 2


def test_without_a_run_the_network_of_the_package_reads_and_a_trained_run_takes_its_place(run, trained, tmp_path):
    for digit, drawing in enumerate(sample_digits.draw_digits()):
        cv2.imwrite(str(tmp_path / f"{digit}.png"), drawing[..., ::-1])
    paths = [f"{digit}.png" for digit in range(10)]
    answer = run("predict", *paths, "--json")
    assert (answer.returncode, [one["text"] for one in json.loads(answer.stdout)["images"]]) == (0, list("0123456789"))
    assert "\nRead by the network of the package (single, validation accuracy 99." in run("predict", *paths).stdout
    shutil.copytree(trained.parent, tmp_path / "models")
    assert f"\nRead by {trained.name}\n" in run("predict", *paths).stdout
    shutil.rmtree(tmp_path / "models" / trained.name)
    assert "\nRead by the network of the package " in run("predict", *paths).stdout


@pytest.fixture
def drawings(tmp_path):
    """Two drawings in data/handwriting, of which one has a wrong label, and a file that is none."""
    folder = tmp_path / "data" / "handwriting"
    folder.mkdir(parents=True)
    for digit in (4, 7):
        cv2.imwrite(str(folder / f"{digit}.png"), sample_digits.draw_digits()[digit][..., ::-1])
    (folder / "cut.png").write_bytes(hostile.HOSTILE["cut.png"])
    (folder / "labels.csv").write_text("path,label\n4.png,4\n7.png,1\n")
    return folder


def test_saved_drawings_are_listed_with_labels_and_scored(run, drawings):
    answer = run("handwriting")
    assert (answer.returncode, answer.stderr) == (0, "")
    rows = [line.split() for line in answer.stdout.splitlines() if ".png" in line]
    assert [(row[0], row[1], " ".join(row[5:])) for row in rows] == [
        ("data/handwriting/7.png", "7", "1 (wrong)"),
        ("data/handwriting/4.png", "4", "4"),
    ]
    assert "Accuracy 50.00% " in answer.stdout
    assert "Read by the network of the package" in answer.stdout
    result = json.loads(run("handwriting", "--json").stdout)
    assert [(one["text"], one["label"], one["correct"]) for one in result["images"]] == [
        ("4", "4", True),
        ("7", "1", False),
    ]
    assert (result["accuracy"]["value"], result["accuracy"]["rows"]) == (0.5, 2)


def test_saved_drawings_are_scored_against_any_run_and_a_broken_one_fails_alone(run, drawings, trained):
    with (drawings / "labels.csv").open("a") as file:
        file.write("cut.png,3\n")
    answer = run("handwriting", "--models-dir", trained.parent, "--run", trained.name)
    assert answer.returncode == 1
    assert answer.stderr.startswith("digit-recognizer: data/handwriting/cut.png: expected an image")
    assert answer.stderr.count("\n") == 1
    assert f"Read by {trained.name}\n" in answer.stdout


def test_without_saved_drawings_the_command_names_the_target(run):
    assert run("handwriting").stderr == (
        "digit-recognizer: no drawings with labels in data/handwriting; save some with `make draw`\n"
    )


def test_predict_without_files_is_an_error(predict):
    answer = predict()
    assert answer.returncode == 1
    assert answer.stderr.startswith("digit-recognizer: no image files to read; name files or folders")


def test_without_tensorboard_its_option_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"expected the package tensorboard, .* run `make train TENSORBOARD=1`"):
        cli.train(preset="fast", tensorboard=True)


@pytest.mark.parametrize(
    ("sent", "status", "settings", "begun"),
    [
        (signal.SIGINT, 130, ["--folds=2"], "member "),
        (signal.SIGTERM, 143, ["--folds=2"], "member "),
        (signal.SIGHUP, 129, ["--folds=1"], "epoch "),
        (signal.SIGINT, 130, ["--folds=1"], ""),  # while it imports TensorFlow and the workers augment
    ],
)
def test_an_interrupted_training_prints_one_line_and_leaves_no_process(
    small_run, tmp_path, sent, status, settings, begun
):
    inherited = signal.SIG_IGN if sent == signal.SIGTERM else signal.SIG_DFL  # as below nohup
    training = subprocess.Popen(
        [SCRIPT, "train", *settings, "--epochs=40", f"--data-dir={small_run[0] / 'data'}", f"--models-dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: (signal.signal(signal.SIGINT, inherited), signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    )
    process = psutil.Process(training.pid)
    try:
        if begun:
            assert "network" in training.stderr.readline()
            assert training.stderr.readline().startswith(begun)
        while len(process.children()) < 2:
            time.sleep(0.01)
        children = process.children(recursive=True)
        os.killpg(training.pid, sent) if sent == signal.SIGINT else training.send_signal(sent)
        out, error = training.communicate(timeout=60)
    finally:
        os.killpg(training.pid, signal.SIGKILL) if training.poll() is None else None
    assert out == ""
    assert [line for line in error.splitlines() if not line.startswith((begun or "epoch ", "single:"))] == [
        f"digit-recognizer: ended by {sent.name}; run the same command again to go on from there"
    ]
    assert training.returncode == status
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_closed_terminal_ends_a_training_with_its_workers(small_run, tmp_path):
    terminal, end = pty.openpty()
    training = subprocess.Popen(
        [SCRIPT, "train", "--epochs=40", f"--data-dir={small_run[0] / 'data'}", f"--models-dir={tmp_path}"],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: (fcntl.ioctl(0, termios.TIOCSCTTY), signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    )
    os.close(end)
    process = psutil.Process(training.pid)
    try:
        while len(process.children()) < 2:
            time.sleep(0.01)
        started = [process, *process.children(recursive=True)]
        os.close(terminal)
        training.wait(timeout=60)
    finally:
        training.kill()
    assert not psutil.wait_procs(started, timeout=20)[1]
