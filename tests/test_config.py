"""Settings and presets."""

import json

import pytest

from digit_recognizer.config import PRESETS, make_config, read_config
from digit_recognizer.errors import UserError


def test_a_preset_keeps_what_is_not_overridden():
    config = make_config("fast", epochs=7, seed=None)
    assert config.epochs == 7
    assert config.seed == PRESETS["fast"].seed
    assert config.channels == PRESETS["fast"].channels


def test_members_without_folds_are_trained_on_all_rows():
    assert make_config("best", members=3).folds == 0
    assert make_config("best", members=3, folds=5).folds == 5
    assert (make_config("best").folds, make_config("best").members) == (5, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_json(preset):
    config = make_config(preset, folds=5, seed=3)
    assert read_config(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"folds": -1}, "expected folds 0 or more, got -1"),
        ({"members": 0}, "expected members 1 or more, got 0"),
        ({"validation": 0.0}, "expected validation more than 0 and at most 0.5, got 0.0"),
        ({"validation": 0.6}, "got 0.6"),
        ({"epochs": 0}, "expected epochs 1 or more, got 0"),
        ({"seed": -1}, "expected seed 0 to 4294967295, got -1"),
    ],
)
def test_a_setting_out_of_range_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        make_config("fast", **overrides)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="expected a preset out of fast, single, best, got 'slow'"):
        make_config("slow")


def test_settings_of_another_version_are_refused():
    with pytest.raises(UserError, match="another version's"):
        read_config(PRESETS["fast"].to_dict() | {"momentum": 0.9})
