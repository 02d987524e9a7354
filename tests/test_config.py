"""Settings and presets."""

import pytest

from digit_recognizer.config import PRESETS, make_config
from digit_recognizer.errors import UserError


def test_fields_that_are_not_overridden_keep_the_value_of_the_preset():
    config = make_config("fast", epochs=7, seed=None)
    assert config.epochs == 7
    assert config.seed == PRESETS["fast"].seed
    assert config.channels == PRESETS["fast"].channels


def test_members_of_a_preset_without_folds_train_on_all_rows():
    assert make_config("single", members=3).folds == 0
    assert make_config("single", members=3, folds=5).folds == 5
    assert (make_config("best", members=3).folds, make_config("best").members) == (10, 2)


def test_a_fraction_of_validation_rows_implies_one_fold():
    assert make_config("best", validation=0.2).folds == make_config("single", validation=0.2, members=3).folds == 1
    for folds in (0, 5):
        with pytest.raises(UserError, match=f"expected VALIDATION= with one fold, got {folds} folds; drop one"):
            make_config("single", validation=0.2, folds=folds)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"epochs": 12}, 9), ({"epochs": 2}, 0), ({"epochs": 12, "augment": False}, 0)],
)
def test_the_first_and_last_epochs_are_not_augmented(settings, expected):
    assert make_config("single", **settings).augmented_epochs == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"preset": "slow"}, "expected a preset out of fast, single, best, max, got 'slow'"),
        ({"folds": -1}, "expected folds 0 or more, got -1"),
        ({"members": 0}, "expected members 1 or more, got 0"),
        ({"validation": 0.0}, "expected validation more than 0 and at most 0.5, got 0.0"),
        ({"validation": 0.6}, "got 0.6"),
        ({"epochs": 0}, "expected epochs 1 or more, got 0"),
        ({"seed": -1}, "expected seed 0 to 4294967295, got -1"),
        ({"architectures": ("mine",)}, "expected architectures residual or plain, got .'mine',."),
    ],
)
def test_a_setting_out_of_range_is_an_error(overrides, message):
    with pytest.raises(UserError, match=message):
        make_config(**{"preset": "fast"} | overrides)
