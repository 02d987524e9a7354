"""Tasks on a Ray cluster: `run_tasks` is for several machines what that of `workers` is for one.

Ray schedules the tasks. No code is uploaded: the kit is installed on each node.
"""

import contextlib
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# Read by Ray on import. Without them it tries to connect for ten minutes.
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "10")

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError, describe_os_error
from digit_recognizer.training.devices import find_gpus, split_devices, uses_onednn
from digit_recognizer.training.session import describe_code, find_difference
from digit_recognizer.training.workers import ENDING, Report

TRIES = 3  # of a task
CHECK_SECONDS = 2.0  # between two looks at the nodes
START_SECONDS = 120  # for the first process on a node
UNITS = {"num_cpus": "CPU", "num_gpus": "GPU"}  # Ray's names of a resource: of a task, and of a node
REASONS = {  # of Ray's exceptions
    "NodeDiedError": "the node was lost",
    "WorkerCrashedError": "its process was killed",
    "OutOfMemoryError": "its process was killed, because memory ran out",
    "GetTimeoutError": "there is no answer",
}


class Attempt(NamedTuple):
    """A task that is submitted to Ray."""

    name: str
    inputs: Sequence[Any]  # arguments, references to shared objects among them
    number: int = 1
    node: str = ""  # on which it runs
    avoided: frozenset[str] = frozenset()  # nodes on which it failed


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected with a running cluster during the block; at its end all tasks of this process are ended.

    The address is "auto", or host and port of the head. A `UserError` is raised if there is no cluster that this
    machine is part of, or if a node has other code or versions.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    handlers = {number: signal.getsignal(number) for number in ENDING}
    fault, received = None, list[int]()

    def interrupt(number: int, _: Any) -> None:  # other exceptions of a signal end a process that waits for Ray
        received.append(number)
        raise KeyboardInterrupt

    with hide_native_messages():
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            fault = " ".join(str(error).split())[:300]
    for number, handler in handlers.items():  # Ray has set its own for SIGTERM
        signal.signal(number, handler if fault or handler is signal.SIG_IGN else interrupt)
    if fault:
        raise UserError(
            f"expected a Ray cluster that this machine is part of at {address!r}, found none ({fault}); start it with "
            "`ray start`, see docs/scaling.md"
        )
    try:
        _require_same_code()
        yield
    except KeyboardInterrupt:
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def share(value: Any) -> Any:
    """Put a value into the object store once; return the reference, to pass as an argument of tasks."""
    return ray.put(value)


def submit(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on one core of any node, again if the node is lost; return the reference to its result."""
    return ray.remote(function).remote(*arguments)


def choose_resources(members: int, cores: int | None) -> dict[str, int]:
    """Return what Ray reserves for each task: a GPU if the cluster has any, otherwise the given number of cores.

    By default a member gets the cores that one machine of the cluster would give it (`split_devices`), because the
    number of threads is part of the result. A `UserError` is raised if no node has so many cores.
    """
    if any(node.get("GPU") for node in _find_nodes().values()):
        return {"num_gpus": 1}
    counts = [int(node["CPU"]) for node in _find_nodes().values() if node.get("CPU", 0) >= 1]
    chosen = cores or (min(counts) // min(*counts, members) if counts else 1)
    if not any(chosen <= count for count in counts):
        raise UserError(
            f"expected a node with {chosen} cores for a network, found nodes with {', '.join(map(str, counts)) or 0}; "
            "choose fewer CORES=, or start Ray on other machines"
        )
    return {"num_cpus": chosen}


def describe(resources: Mapping[str, int]) -> str:
    """Return, for example, "up to 8 at once on 2 nodes, each with 1 CPU"."""
    ((kind, count),), slots = resources.items(), _count_slots(resources)
    nodes = f"{len(slots)} node{'s' * (len(slots) != 1)}"
    return f"up to {sum(slots.values())} at once on {nodes}, each with {count} {UNITS[kind]}{'s' * (count != 1)}"


def run_tasks(
    function: Callable[..., Any],
    tasks: Iterable[tuple[str, Sequence[Any]]],
    resources: Mapping[str, int],
    *,
    report: Callable[[str, Any], None],
    notice: Callable[[str], None],
    watch: Callable[[int], None],
) -> Iterator[tuple[str, Any]]:
    """Call a function once for each task, in processes on the nodes of the cluster.

    Args:
        function: Called with a callback for progress messages and the inputs of the task.
        tasks: Names and inputs. They are taken when they can start soon, so that inputs can be made late.
        resources: From `choose_resources`.
        report: Called with the task's name and each progress message.
        notice: Called with a line for each task that is tried again.
        watch: Called with the number of nodes that run tasks, after each change.

    Yields:
        Names and results in the order in which they are completed. A task that fails, with its node, its process or by
        an exception, is tried again, on another node if there is one.

    Raises:
        UserError: Tasks failed `TRIES` times, and the others are completed; or no node is left.
    """
    waiting, failed, checked = (Attempt(*task) for task in tasks), dict[str, str](), -math.inf
    again, running = deque[Attempt](), dict[Any, Attempt]()  # by the stream of its messages
    options: dict[str, Any] = {"max_retries": 0, "num_returns": "streaming", "scheduling_strategy": "SPREAD"}
    work = ray.remote(**options, **resources)(_work)  # with a GPU in a new process each
    common = function, dict(resources), describe_code(), uses_onednn()
    try:
        while True:
            if time.monotonic() > checked + CHECK_SECONDS:
                checked, slots = time.monotonic(), _count_slots(resources)
                for stream, attempt in list(running.items()):
                    if not attempt.node and not slots.keys() - attempt.avoided:  # no other node is left
                        ray.cancel(stream, force=True)
                        again.append(running.pop(stream))
            while len(running) < 1.25 * sum(slots.values()):
                following = again.popleft() if again else next(waiting, None)
                if following is None:
                    break
                avoided = following.avoided if slots.keys() - following.avoided else ()
                others = {"label_selector": {"ray.io/node-id": f"!in({','.join(avoided)})"}} if avoided else {}
                running[work.options(**others).remote(*common, *following.inputs)] = following
            if not running:
                break
            ready, _ = ray.wait(list(running), timeout=CHECK_SECONDS)
            if ready:  # and others
                ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
            for stream in ready:
                attempt = running[stream]
                try:
                    kind, value = ray.get(next(stream))
                except (RayError, StopIteration) as error:
                    kind, value = "error", _describe_error(error)
                if kind == "report":
                    report(attempt.name, value)
                    continue
                if kind == "node":
                    running[stream] = attempt._replace(node=value)
                else:
                    del running[stream]
                watch(len({one.node for one in running.values() if one.node}))
                if kind == "result":
                    yield attempt.name, value
                elif kind == "error":
                    failure = f"{attempt.name} failed{_name_place(attempt.node)}:"
                    if attempt.number == TRIES:
                        failed[attempt.name] = f"{failure} {value}"
                        continue
                    notice(f"{failure} {value.strip().splitlines()[-1]}; trying again")
                    failures = attempt.avoided | ({attempt.node} - {""})
                    again.append(Attempt(attempt.name, attempt.inputs, attempt.number + 1, avoided=failures))
    finally:
        for stream in running:
            ray.cancel(stream, force=True)
    if found := "; ".join(failed.values()):
        message = f"expected all networks to be trained, found that in the last of {TRIES} tries {found}"
        raise RuntimeError(message) if "\n" in found else UserError(f"{message}; run the command again to go on")


def _require_same_code() -> None:
    """Raise a `UserError` if a node has other code or versions than this machine, or no kit at all."""
    probe = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(describe_code)
    answers = {
        node: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in _find_nodes()
    }
    faults = []
    for node, answer in answers.items():
        try:
            different = find_difference(describe_code(), ray.get(answer, timeout=START_SECONDS))
        except RayError as error:
            different = _describe_error(error)
        faults += [f"{_name_place(node)} {different}"] if different else []
    if faults:
        raise UserError(
            f"expected the code and versions of this machine on all nodes, found{';'.join(faults)}; install the same "
            "there (`make setup CLUSTER=1`), and start Ray again"
        )


def _find_nodes() -> dict[str, dict[str, float]]:
    """Return the resources of each node by its identifier."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _name_place(node: str) -> str:
    return "".join(
        f" on {one['NodeManagerHostname']} ({one['NodeManagerAddress']}, node {node[:6]})"
        for one in ray.nodes()
        if one["NodeID"] == node
    )


def _count_slots(resources: Mapping[str, int]) -> dict[str, int]:
    """Return how many tasks each node can run at once; raise a `UserError` if there is none for them."""
    ((kind, count),) = resources.items()
    slots = {node: int(found.get(UNITS[kind], 0) // count) for node, found in _find_nodes().items()}
    slots = {node: number for node, number in slots.items() if number}
    if not slots:
        raise UserError(
            f"expected a node with {count} {UNITS[kind]} for a network, found that none is left; start Ray there, and "
            "run the command again to go on"
        )
    return slots


def _describe_error(error: Exception) -> str:
    """Return the reason of an exception that Ray raises, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # A RayTaskError is that of a function that could not be loaded; its last line is the reason.
    return REASONS.get(type(error).__name__) or lines[-1 if isinstance(error, ray.exceptions.RayTaskError) else 0]


def _work(
    function: Callable[..., Any], resources: dict[str, int], code: dict[str, str], onednn: bool, *inputs: Any
) -> Iterator[tuple[str, Any]]:
    """Call a function on a node; yield the node, its progress messages, and its result or error."""
    yield "node", ray.get_runtime_context().get_node_id()
    different = find_difference(code, describe_code())  # on a node that was added later
    if different:
        yield "error", f"expected the code and versions of the first machine, found {different}"
        return
    gpus = find_gpus() if "num_gpus" in resources else []
    os.environ.update(split_devices(1, gpus)[0] | {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn))})
    if "num_cpus" in resources:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(resources["num_cpus"])
    messages = queue.SimpleQueue[tuple[str, Any]]()
    threading.Thread(target=_call, args=(function, inputs, messages.put), daemon=True).start()
    kind = ""
    while kind not in ("result", "error"):
        kind, value = messages.get()
        yield kind, value


def _call(function: Callable[..., Any], inputs: Sequence[Any], send: Callable[[tuple[str, Any]], None]) -> None:
    """Call a function in a thread, because its callback cannot yield."""
    report: Report = lambda message: send(("report", message))  # noqa: E731
    try:
        answer = "result", function(report, *inputs)
    except UserError as error:
        answer = "error", str(error)
    except OSError as error:
        answer = "error", describe_os_error(error)
    except BaseException:  # noqa: BLE001 - raised by the process that submitted the task
        answer = "error", f"\n{traceback.format_exc()}"
    send(answer)
