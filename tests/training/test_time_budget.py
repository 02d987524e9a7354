"""The time budget, with a clock of the test's own."""

from types import SimpleNamespace

import pytest

from digit_recognizer.training.time_budget import OutOfTimeError, TimeBudget


def test_a_member_begins_only_if_the_slowest_one_yet_would_fit():
    clock = SimpleNamespace(time=0.0)
    budget = TimeBudget(100, clock=lambda: clock.time)
    assert budget.has_room()  # nothing is known yet
    budget.member_ended(40)
    budget.member_ended(30)
    clock.time = 60
    assert budget.has_room()
    clock.time = 61
    assert not budget.has_room()


def test_without_a_deadline_there_is_always_room():
    budget = TimeBudget()
    budget.member_ended(1e9)
    assert budget.has_room()


def test_epochs_are_extrapolated_without_the_first_one():
    clock = SimpleNamespace(time=0.0)
    budget = TimeBudget(100, clock=lambda: clock.time)
    for epoch, time in enumerate((50, 60, 70)):  # the first builds the network
        clock.time = time
        budget.epoch_ended(epoch, 6)
    clock.time = 81  # 10.33 s an epoch, two left
    with pytest.raises(OutOfTimeError, match=r"its 6 epochs of 10\.3 s each would end 0\.0 minutes late"):
        budget.epoch_ended(3, 6)


def test_the_last_epoch_of_a_member_is_never_in_vain():
    clock = SimpleNamespace(time=0.0)
    budget = TimeBudget(100, clock=lambda: clock.time)
    budget.epoch_ended(0, 2)
    clock.time = 100
    budget.epoch_ended(1, 2)


def test_each_member_is_extrapolated_from_its_own_epochs():
    clock = SimpleNamespace(time=0.0)
    budget = TimeBudget(1000, clock=lambda: clock.time)
    for start in (0, 400):
        for epoch in range(4):
            clock.time = start + 100 * epoch
            budget.epoch_ended(epoch, 4)
