#!/usr/bin/env bash
# A .keras file of Keras 3.15 cannot be loaded by 3.14, although the network uses nothing new: every layer with the
# default initialiser is written with the new keys "input_axes": null and "output_axes": null, which the older
# constructor refuses. Without these two keys in config.json the older version loads it, with equal predictions.
# Versions: keras 3.15.1 and 3.14.0, jax 0.10.2.
# Seen: 3.14.0: TypeError (could not be deserialized properly); after the keys are taken out: loaded, distance 0.
# Why it matters: a network trained in one hosted notebook image is refused in another whose Keras is one minor version
# older; and a layer's initialiser is not even used when weights are loaded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export KERAS_BACKEND=jax KERAS_HOME="$folder"
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys

import keras
import numpy as np

network = keras.Sequential(
    [keras.Input((28, 28, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(10)]
)
images = np.linspace(0, 1, 2 * 784, dtype="float32").reshape(2, 28, 28, 1)
network.save(f"{sys.argv[1]}/network.keras")
np.save(f"{sys.argv[1]}/predictions.npy", network.predict(images, verbose=0))
print(f"saved by Keras {keras.__version__}")
PYTHON
"$folder/env/bin/pip" install --quiet keras==3.14.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import sys
import zipfile

import keras
import numpy as np

path, repaired = f"{sys.argv[1]}/network.keras", f"{sys.argv[1]}/repaired.keras"
try:
    keras.models.load_model(path)
except TypeError as error:
    print(f"Keras {keras.__version__}: {str(error).split('. ')[0][:110]}")
else:
    sys.exit("the older version loads the file now")


def without_new_keys(config):
    """Take the two keys out at every depth; they are null everywhere."""
    if isinstance(config, list):
        return [without_new_keys(item) for item in config]
    if not isinstance(config, dict):
        return config
    assert config.get("input_axes") is None and config.get("output_axes") is None
    return {key: without_new_keys(item) for key, item in config.items() if key not in ("input_axes", "output_axes")}


with zipfile.ZipFile(path) as source, zipfile.ZipFile(repaired, "w") as target:
    for name in source.namelist():
        content = source.read(name)
        if name == "config.json":
            content = json.dumps(without_new_keys(json.loads(content)))
        target.writestr(name, content)
images = np.linspace(0, 1, 2 * 784, dtype="float32").reshape(2, 28, 28, 1)
predictions = keras.models.load_model(repaired).predict(images, verbose=0)
distance = float(np.abs(predictions - np.load(f"{sys.argv[1]}/predictions.npy")).max())
print(f"without the two keys: loaded, largest distance of the predictions {distance}")
assert distance < 1e-6
PYTHON
