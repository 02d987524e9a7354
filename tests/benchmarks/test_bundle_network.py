"""Weights and record of the network that the package ships, made from a run."""

import hashlib
import json

import made
import numpy as np
import pytest

from benchmarks.bundle_network import bundle_network
from digit_recognizer.errors import UserError
from digit_recognizer.model.bundled import load_bundled
from digit_recognizer.model.prediction import load_network
from digit_recognizer.training.run_folder import read_record


def test_a_run_is_bundled_in_half_precision_with_its_record(demo_dir, tmp_path):
    run_dir = made.write_run(tmp_path / "run", demo_dir, networks=True)
    run = read_record(run_dir) | {"competition": "digit-recognizer"}
    (run_dir / "run.json").write_text(json.dumps(run))
    bundle_network(run_dir, tmp_path / "bundled.npz", tmp_path / "bundled.json")
    record = json.loads((tmp_path / "bundled.json").read_text())
    assert record["weights_sha256"] == hashlib.sha256((tmp_path / "bundled.npz").read_bytes()).hexdigest()
    assert [record[name] for name in ("run", "config", "data")] == [run[name] for name in ("run", "config", "data")]
    assert record["validation_accuracy"] == run["scores"]["validation_accuracy"]
    images = np.random.default_rng(0).random((5, 28, 28, 1), np.float32)
    networks = load_network(run_dir / "member-0" / "model.keras"), load_bundled(tmp_path / "bundled.npz")
    first, second = (network(images).numpy() for network in networks)
    assert np.abs(first - second).max() < 1e-3


def test_a_run_of_several_networks_or_on_other_data_is_refused(demo_dir, tmp_path):
    with pytest.raises(UserError, match=r"expected one network .* data, found 2 on the demo data; name another RUN="):
        bundle_network(made.write_run(tmp_path / "run", demo_dir, folds=2))
