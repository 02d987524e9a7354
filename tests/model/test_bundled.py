"""The network that the package ships."""

import hashlib

from digit_recognizer.model import bundled


def test_weights_are_those_of_the_record():
    record = bundled.read_bundled_record()
    assert record["weights_sha256"] == hashlib.sha256(bundled.WEIGHTS.read_bytes()).hexdigest()
    assert record["config"]["preset"] == "single"
    assert record["validation_accuracy"] > 0.99
    assert {"seed", "epochs"} < record["config"].keys()
    assert all(record[name] for name in ("data", "code", "versions", "finished_at", "git_commit"))
