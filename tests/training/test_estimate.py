"""Estimated training times."""

from dataclasses import replace

import pytest
import tiny

from digit_recognizer.config import PRESETS
from digit_recognizer.training import estimate
from digit_recognizer.training.estimate import Cost

COST = Cost(start=0.0, step=2.0, step_cpu=3.0, member=5.0, augmentation=0.5)
CONFIG = replace(tiny.TINY, batch_size=10, epochs=3, validation=0.1)  # one member on 90 of 100 rows
STEPS = 3 * 9
PREDICTED = (3 + 1) * 10 / 10 / 3  # steps that cost as much: validation of three epochs, and the prediction


def seconds(config=CONFIG, cores=2, **options):
    return estimate.estimate_seconds(config, 100, COST, cores=cores, **options)


def test_one_member_has_all_cores():
    assert seconds() == pytest.approx(5 + 2 * (STEPS + PREDICTED))


def test_members_share_the_cores():
    two = replace(CONFIG, members=2)
    assert seconds(two) == pytest.approx(5 + 3 * (STEPS + PREDICTED))
    assert seconds(two, cores=1) == pytest.approx(2 * (5 + 3 * (STEPS + PREDICTED)))
    assert seconds(two, cores=4) == pytest.approx(5 + 2 * (STEPS + PREDICTED))
    assert seconds(replace(CONFIG, members=3)) == pytest.approx(2 * (5 + 3 * (STEPS + PREDICTED)))


def test_each_gpu_trains_one_member():
    assert seconds(replace(CONFIG, members=3), gpus=2) == pytest.approx(2 * (5 + 2 * (STEPS + PREDICTED)))


def test_augmentation_is_shared_between_the_cores():
    augmented = replace(CONFIG, augment=True, plain_epochs=1)  # one epoch of 100 images
    assert seconds(augmented) - seconds() == pytest.approx(100 * 0.5 / 2)


def test_folds_change_the_number_of_predictions():
    assert seconds(replace(CONFIG, folds=0)) == pytest.approx(5 + 2 * 3 * 10)
    five = replace(CONFIG, folds=5)
    assert seconds(five, gpus=5) == pytest.approx(5 + 2 * (3 * 8 + (3 + 1) * 20 / 10 / 3))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (8.4, "about 8 s"),
        (28, "about 30 s"),
        (89, "about 90 s"),
        (91, "about 1.5 min"),
        (220, "about 3.5 min"),
        (760, "about 13 min"),
        (1234, "about 20 min"),
        (5300, "about 90 min"),
        (5500, "about 1.5 h"),
        (40000, "about 11 h"),
    ],
)
def test_estimates_are_rounded(seconds, text):
    assert estimate.describe_seconds(seconds) == text


def test_a_measurement_trains_each_network_once(monkeypatch):
    from digit_recognizer.training import member

    trained, train = [], member.train_member
    monkeypatch.setattr(
        member,
        "train_member",
        lambda config, *given, **options: trained.append(config) or train(config, *given, **options),
    )
    one = replace(tiny.TINY, batch_size=8)
    two = replace(one, preset="other", folds=5, members=2, architectures=("residual", "plain"), augment=True, epochs=9)
    costs = [estimate.measure_steps(config, "float32") for config in (one, two)]
    assert [config.architectures for config in trained] == [("residual",), ("plain",)]
    assert all(value > 0 for cost in costs for value in cost[:4])
    assert costs[0].augmentation == 0
    assert costs[1].augmentation > 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_estimated(name):
    assert estimate.estimate_seconds(PRESETS[name], 42_000, Cost(9, 0.03, 0.05, 3, 1e-4), cores=2) > 0


def test_the_same_settings_are_measured_once(monkeypatch):
    monkeypatch.setattr(estimate, "run_tasks", lambda *_, **__: [object()])
    estimate.measure_apart.cache_clear()
    one, same, other = (
        estimate.measure_apart(config, "float32", ()) for config in (CONFIG, replace(CONFIG), replace(CONFIG, epochs=9))
    )
    assert one is same
    assert one is not other
    estimate.measure_apart.cache_clear()


def test_a_measurement_in_a_worker_process_has_all_costs():
    cost = estimate.measure_apart(replace(tiny.TINY, batch_size=8), "float32", ())
    assert all(value > 0 for value in cost[:4])
