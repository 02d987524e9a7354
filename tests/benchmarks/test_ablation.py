"""Variations of the preset `single`."""

import pytest
from tiny import QUIET, TINY

from benchmarks import ablation


@pytest.mark.benchmarks
def test_each_patch_is_applied_during_the_training_and_undone_after_it():
    import keras
    from keras import layers

    from digit_recognizer.training.optimizer import Muon

    targets = [(Muon, "update_step"), (Muon, "finish"), (layers, "GlobalAveragePooling2D"), (keras.Model, "compile")]
    before, patched = [getattr(*target) for target in targets], []
    for variation in ablation.VARIATIONS.values():
        with variation.patch():
            now = [getattr(*target) for target in targets]
        patched += [target for target, old, new in zip(targets, before, now, strict=True) if new is not old]
        assert [getattr(*target) for target in targets] == before
    assert patched == [targets[0], targets[1], targets[3], targets[2]]  # in the order of the variations


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
    monkeypatch.setattr(ablation, "_train", None)  # nothing is trained again
    assert ablation.measure(demo_dir, tmp_path, QUIET, ["a", "pair"])["variations"] == result
