"""The network that the package ships, so that a fresh clone reads handwriting without training.

bundled.npz has its layers and weights, bundled.json how they were made; `make bundled` writes both from a run.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.console import hide_native_messages

WEIGHTS, RECORD = (Path(__file__).with_name(f"bundled.{suffix}") for suffix in ("npz", "json"))


def read_bundled_record() -> dict[str, Any]:
    """Return the record: run, settings, hashes of data and code, versions, time, accuracy, temperature."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def load_bundled(path: Path = WEIGHTS) -> Any:
    """Load the network, a `keras.Model` from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10]."""
    with hide_native_messages():
        import keras
    with np.load(path) as saved:
        layers, *weights = saved.values()  # the weights are float16
        network = keras.models.model_from_json(str(layers))
        network.set_weights([array.astype(np.float32) for array in weights])
    return network
