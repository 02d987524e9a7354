"""Variations of the preset `single`."""

import pytest
from tiny import QUIET, TINY

from benchmarks import ablation


@pytest.mark.benchmarks
def test_an_ablation_compares_with_the_first_setting_and_keeps_its_predictions(demo_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(ablation.PRESETS, "single", TINY)
    monkeypatch.setattr(ablation, "run_tasks", lambda train, tasks, *_, **__: [train(task, None) for task in tasks])
    variations = {"a": ablation.Variation({}), "pair": ablation.Variation({"members": 2, "epochs": 1})}
    monkeypatch.setattr(ablation, "VARIATIONS", variations)
    result = ablation.measure(demo_dir, tmp_path, QUIET, ["a", "pair"])["variations"]
    assert result["a"]["difference"]["accuracy"] == 0
    assert result["pair"]["difference"]["accuracy"] == pytest.approx(
        result["pair"]["accuracy"] - result["a"]["accuracy"]
    )
    assert 0.2 < result["pair"]["accuracy"] < 1
    monkeypatch.setattr(ablation, "_train", pytest.fail)  # nothing is trained again
    assert ablation.measure(demo_dir, tmp_path, QUIET, ["a", "pair"])["variations"] == result
