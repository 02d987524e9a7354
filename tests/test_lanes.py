"""Tasks in other processes."""

import os

import psutil
import pytest

from digit_recognizer.lanes import run_lanes

PROGRAM = """
for task in "$@"; do
    case $task in
        hang) sleep 600;;
        illegal) echo first >&2; echo "needs AVX" >&2; kill -ILL $$;;
        fail) exit 3;;
        *) echo "did $task";;
    esac
done
"""
COMMAND = ["sh", "-c", PROGRAM, "sh"]


def list_children():
    return psutil.Process(os.getpid()).children(recursive=True)


def run(*lanes, limit=60.0):
    return [tuple(answer) for answer in run_lanes(COMMAND, [list(lane) for lane in lanes], limit=limit)]


def test_every_task_of_a_lane_is_answered_in_order():
    assert run(["a", "b"], []) == [("a", "did a\n", "", ""), ("b", "did b\n", "", "")]


def test_lanes_run_side_by_side():
    answers = run_lanes(COMMAND, [["hang"], ["a", "b"]], limit=60)
    assert [next(answers).task for _ in range(2)] == ["a", "b"]
    answers.close()


def test_a_process_that_aborts_is_described_with_its_last_message_and_the_lane_goes_on():
    aborted, failed, other = run(["illegal", "fail", "a"])
    assert aborted == ("illegal", "", "aborted by signal 4 (Illegal instruction)", "needs AVX")
    assert failed == ("fail", "", "ended with exit status 3", "")
    assert other == ("a", "did a\n", "", "")


def test_a_task_beyond_the_limit_is_ended_with_its_children_and_the_lane_goes_on():
    before = list_children()
    assert run(["hang", "a"], limit=2.0) == [("hang", "", "no result within 2 s", ""), ("a", "did a\n", "", "")]
    assert set(list_children()) <= set(before)


def test_an_interruption_ends_all_processes():
    before = list_children()
    answers = run_lanes(COMMAND, [["a", "hang"], ["hang"]], limit=60)
    next(answers)
    children = set(list_children()) - set(before)
    with pytest.raises(KeyboardInterrupt):
        answers.throw(KeyboardInterrupt)
    assert len(children) >= 2
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_cleared_lane_ends():
    lanes = [["a", "b"]]
    for answer in run_lanes(COMMAND, lanes, limit=60):
        assert answer.task == "a"
        lanes[0].clear()
