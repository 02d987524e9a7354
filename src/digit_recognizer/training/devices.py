"""What a session offers, on Kaggle or elsewhere: the competition's files, and GPUs."""

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from digit_recognizer.config import COMPETITION
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.errors import UserError

HEADERS = {"train.csv": ",".join(TRAIN_COLUMNS).encode(), "test.csv": ",".join(TEST_COLUMNS).encode()}


def find_input(root: Path) -> Path:
    """Returns the folder of train.csv and test.csv.

    Kaggle mounts a competition in one of two places; a copy that somebody attached as a data set lies elsewhere.

    Args:
        root: /kaggle, or what stands for it. Where it does not exist this is no Kaggle session: data/ is taken.

    Raises:
        UserError: there are no files with the competition's headers.
    """
    if not root.is_dir():
        return Path("data")
    folders = [root / "input" / COMPETITION, root / "input" / "competitions" / COMPETITION]
    folders += sorted(path.parent for path in (root / "input").rglob("train.csv"))
    for folder in folders:
        if all(_first_line(folder / name) == header for name, header in HEADERS.items()):
            return folder
    raise UserError(
        f"expected train.csv and test.csv of {COMPETITION} below {root / 'input'}, found none with their headers; in "
        "Kaggle's editor choose Add input, Competition Dataset, Digit Recognizer, and run the notebook again"
    )


def find_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns a name for each GPU that TensorFlow can use, as CUDA_VISIBLE_DEVICES takes them.

    TensorFlow is not asked: the process that asks it holds the memory of all GPUs from then on.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("tensorflow-cpu")
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name and name != "-1"]
    if shutil.which("nvidia-smi", path=environment.get("PATH")) is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environment))
    return answer.stdout.split() if answer.returncode == 0 else []


def machine_parts(members: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Shares the machine out among members that are trained at the same time.

    On a processor a core a member is the fastest, since cores that work on one network wait for each other after every
    operation.

    Args:
        members: of the run; its number alone decides on the parts, so that a resumed run goes on in the same way.
        gpus: out of `find_gpus`.

    Returns:
        For each part the environment variables that keep TensorFlow within it.
    """
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:members]]
    cores = os.cpu_count() or 1
    parts = min(cores, members)
    # With a single thread between operators, a tf.data generator can wait for the very step that waits for it.
    threads = {"TF_NUM_INTRAOP_THREADS": str(cores // parts), "TF_NUM_INTEROP_THREADS": "2"}
    return [threads | {"CUDA_VISIBLE_DEVICES": "-1"}] * parts


def describe_hardware(gpus: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Says what a training will run on.

    Args:
        gpus: out of `find_gpus`.
        environment: its variables tell of a TPU.
    """
    if gpus:
        return f"{len(gpus)} GPUs, a member on each at a time" if len(gpus) > 1 else "1 GPU"
    cores = f"training on the processor's {os.cpu_count()} cores, a member on each at a time where there are several"
    if environment.get("PJRT_DEVICE") == "TPU" or any(name.startswith("TPU_") for name in environment):
        return f"a TPU, which this TensorFlow, made for processors alone, cannot use: {cores}; choose GPU T4 x2 instead"
    return f"no GPU: {cores}"


def _first_line(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.readline(10_000).rstrip(b"\r\n")
    except OSError:
        return None
