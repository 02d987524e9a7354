"""Processor cores, GPUs, and the precision to compute in."""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FEATURES = {  # of processors, by names of Linux
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "AMX": {"amx_tile"},
    "bfloat16": {"avx512_bf16", "amx_bf16"},
}


def count_cores() -> int:
    """Return the number of cores that this process may use, given its affinity and a container's quota."""
    from joblib import cpu_count

    return int(cpu_count())


def find_features() -> list[str]:
    """Return those of `FEATURES` that oneDNN finds in the processor; none on systems other than Linux."""
    line = re.search(r"^flags\s*:(.*)", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    flags = set(line[1].split()) if line else set()
    return [name for name, any_of in FEATURES.items() if any_of & flags]


def uses_onednn(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether TensorFlow computes with oneDNN, as it does unless TF_ENABLE_ONEDNN_OPTS is 0."""
    return environment.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"


def find_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that TensorFlow can use, as names for CUDA_VISIBLE_DEVICES.

    This does not import TensorFlow, which would take the memory of all GPUs for this process.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("tensorflow-cpu")
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name and name != "-1"]
    return query_gpus("index")


def split_devices(members: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Divide the machine among the members of a run; return environment variables that restrict TensorFlow to a device.

    On a processor one core per member is fastest, since cores that share a network wait for each other after every
    operation. A resumed run is divided in the same way, because missing members do not count.
    """
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:members]]
    cores = count_cores()
    devices = min(cores, members)
    # With one inter-op thread a tf.data generator can wait for the very step that waits for it.
    threads = {"TF_NUM_INTRAOP_THREADS": str(cores // devices), "TF_NUM_INTEROP_THREADS": "2"}
    return [threads | {"CUDA_VISIBLE_DEVICES": "-1"}] * devices


def choose_precision(gpus: Sequence[str]) -> str:
    """Return the Keras dtype policy to train in: "mixed_bfloat16" if the hardware computes in it, or "float32".

    That is a GPU of compute capability 8.0 or more, or a processor with AVX-512 BF16 or AMX. "mixed_float16", which
    older GPUs compute in, needs loss scaling and is not chosen: float32 is fast enough for these networks.
    """
    if gpus:
        capabilities = [float(value) for value in query_gpus("compute_cap", gpus) if re.fullmatch(r"\d+\.\d+", value)]
        fast = min(capabilities, default=0.0) >= 8
    else:
        fast = "bfloat16" in find_features()
    return "mixed_bfloat16" if fast else "float32"


def query_gpus(field: str, gpus: Sequence[str] = ()) -> list[str]:
    """Return a field of the GPUs from nvidia-smi, of all of them by default; nothing without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    command += [f"--id={','.join(gpus)}"] if gpus else []
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []
