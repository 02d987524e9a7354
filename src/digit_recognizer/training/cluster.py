"""Tasks on a Ray cluster: `run_tasks_on_cluster` is for several machines what `workers.run_tasks` is for one.

Ray places the tasks, tries those again whose node or process was lost, and cancels them. No code is uploaded: each node
has the kit.
"""

import contextlib
import importlib.metadata
import logging
import os
import platform
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError
from digit_recognizer.training.devices import split_devices, uses_onednn
from digit_recognizer.training.environment import code_sha256, find_versions
from digit_recognizer.training.workers import ENDING, Report, Result

# Read by Ray on import. Without them it tries to connect for ten minutes.
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")
if Path("~/.ray/auth_token").expanduser().exists():  # then the head asks for it
    os.environ.setdefault("RAY_AUTH_MODE", "token")

try:
    import ray
    from ray.exceptions import RayError
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as missing:
    raise UserError(
        f"a cluster needs the package {missing.name}, which is not installed; run `make train` with CLUSTER=, or "
        "pip install '.[cluster]'"
    ) from None

RETRIES = 2  # of a task
REPORT_SECONDS = 0.5  # between two looks at the progress


def run_tasks_on_cluster(
    function: Callable[[int, Report], Result], tasks: Iterator[int], *, address: str, members: int, report: Report
) -> Iterator[Result]:
    """Call a picklable function for each task in processes on the nodes of a running cluster (`workers.run_tasks`).

    The address is "auto", or host and port of the head; this machine must be a node. Each task gets a GPU if there are
    any, otherwise the cores that this machine would give to one of so many members (`split_devices`): the number of
    threads is part of the result.

    Raises:
        UserError: There is no cluster, no node has so many cores, or tasks failed; the others are completed.
    """
    with _connect(address):
        device = split_devices(members, [])[0]
        cores = int(device["TF_NUM_INTRAOP_THREADS"])
        has_gpus = "GPU" in ray.cluster_resources()
        if not has_gpus and max(node["Resources"].get("CPU", 0) for node in ray.nodes()) < cores:
            raise UserError(f"no node of the cluster has {cores} cores for a network; train on a smaller machine")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        work = ray.remote(
            max_retries=RETRIES,
            retry_exceptions=[OSError],  # such as a full disk
            scheduling_strategy="SPREAD",
            **({"num_gpus": 1} if has_gpus else {"num_cpus": cores}),
        )(_work)
        variables = {"TF_ENABLE_ONEDNN_OPTS": str(int(uses_onednn()))} | ({} if has_gpus else device)
        _check_nodes()
        shared = ray.put((function, variables, describe_code()))
        running, failures = [work.remote(shared, task, messages) for task in tasks], list[str]()
        try:
            while running:
                done, running = ray.wait(running, timeout=REPORT_SECONDS)
                for message in messages.get_nowait_batch(messages.qsize()):
                    report(message)
                for reference in done:
                    try:
                        yield ray.get(reference)
                    except RayError as error:
                        failures.append(_describe_failure(error))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
    if failures:
        raise UserError(f"{'; '.join(failures)}; run the command again to go on")


@contextlib.contextmanager
def _connect(address: str) -> Iterator[None]:
    """Connect with a running cluster during the block; at its end all tasks of this process are ended."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        with hide_native_messages():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            f"expected a Ray cluster that this machine is part of at {address!r}, found none "
            f"({' '.join(str(error).split())[:300]}); start it with `ray start`, install the versions that it has, or "
            "copy ~/.ray/auth_token from its first machine, see docs/scaling.md"
        ) from None
    finally:
        for number, handler in handlers.items():  # Ray has set its own for SIGTERM
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _describe_failure(error: Exception) -> str:
    """Return the first line of what a task raised."""
    cause = getattr(error, "cause", None) or error  # of a RayTaskError
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _check_nodes() -> None:
    """Raise a `UserError` that names a node with other versions or other code, or without the kit."""
    for node in (node for node in ray.nodes() if node["Alive"]):
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        try:
            ray.get(ray.remote(num_cpus=0, scheduling_strategy=place)(_compare).remote(describe_code()))
        except RayError as error:
            raise UserError(f"the node {node['NodeManagerAddress']}: {_describe_failure(error)}") from None


def describe_code() -> dict[str, str]:
    """Return what all nodes must have in common: the versions of Python and of packages, and the hash of the code."""
    versions = {name.removesuffix("-cpu"): version for name, version in find_versions().items()}
    versions["ray"] = ray.__version__
    return versions | {"digit-recognizer": importlib.metadata.version("digit-recognizer"), "code": code_sha256()[:12]}


def _work(shared: tuple[Callable[[int, Report], Any], dict[str, str], dict[str, str]], task: int, messages: Any) -> Any:
    """Call the function on a node."""
    function, variables, code = shared
    _compare(code)  # a node can have joined after the others were checked
    os.environ.update(variables)
    return function(task, messages.put)


def _compare(code: dict[str, str]) -> None:
    """Raise a `UserError` if this machine has other versions or other code."""
    here = describe_code()
    different = [f"{name} {here.get(name)} instead of {code[name]}" for name in code if here.get(name) != code[name]]
    if different:
        raise UserError(f"{platform.node()} has {', '.join(different)}; install there what this machine has")
