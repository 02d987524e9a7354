"""Runs whose members are trained on several machines: what is recorded, and what must be the same."""

import copy

from digit_recognizer.training.session import describe_code, find_difference, note_origin

MACHINE = {"system": "Linux", "processor": "A", "threads": 8, "gpus": ["T4"]}
ORIGIN = {"machine": MACHINE, "precision": "float32", "versions": {"tensorflow": "2.21.0"}}


def make_record(**values):
    machine = {"system": "Linux", "processor": "laptop", "threads": 2}
    return {"machine": machine, "precision": None, "versions": {"tensorflow": "2.21.0"}} | values


def test_the_first_member_gives_the_machine_and_the_precision_of_the_run():
    record = make_record()
    note_origin(record, 3, ORIGIN)
    assert record == make_record(machine=MACHINE, precision="float32")


def test_members_of_machines_of_the_same_kind_are_not_named():
    record = make_record()
    note_origin(record, 0, ORIGIN)
    two_gpus = copy.deepcopy(ORIGIN)
    two_gpus["machine"]["gpus"] = ["T4", "T4"]
    note_origin(record, 1, two_gpus)
    assert "unlike_members" not in record


def test_a_member_of_an_unlike_machine_is_recorded_with_machine_precision_and_versions():
    record = make_record()
    note_origin(record, 0, ORIGIN)
    others = [
        ORIGIN | {"machine": MACHINE | {"processor": "B"}},
        ORIGIN | {"precision": "mixed_bfloat16"},
        ORIGIN | {"versions": {"tensorflow-cpu": "2.21.0"}},
        ORIGIN | {"machine": MACHINE | {"gpus": []}},
    ]
    for index, origin in enumerate(others, start=1):
        note_origin(record, index, origin)
    assert record["unlike_members"] == {str(index): origin for index, origin in enumerate(others, start=1)}


def test_a_run_of_one_machine_that_another_one_ends_names_its_members():
    record = make_record(precision="float32", machine=MACHINE | {"gpus": []})
    note_origin(record, 0, ORIGIN)
    assert record["unlike_members"] == {"0": ORIGIN}


def test_a_difference_between_the_code_of_two_machines_is_named():
    expected = {"python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.13.0"}
    assert find_difference(expected, dict(expected)) == ""
    found = {"python": "3.11.9", "keras": "3.13.0", "extra": "1"}
    assert find_difference(expected, found) == (
        "python 3.11.9 instead of 3.11.7, tensorflow missing instead of 2.21.0, extra 1 instead of none"
    )
    assert {"python", "tensorflow", "keras", "digit-recognizer", "code"} <= describe_code().keys()
