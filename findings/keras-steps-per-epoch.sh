#!/usr/bin/env bash
# fit(generator, steps_per_epoch=rows // batch), as in countless notebooks, with a generator of ImageDataGenerator.flow
# and rows that are no multiple of the batch: the generator has one batch more than the steps. Every second epoch of
# Keras 3 trains on the one batch that the epoch before left, and ends with a warning. fit shuffles the batches, so that
# this may be the short one or a full one. Without steps_per_epoch every epoch has all batches.
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0, numpy 2.4.6, pillow 13.0.0.
# Seen on 2026-12-01: 70 rows, batches of 32, 4 epochs: 2, 1, 2, 1 batches, with two warnings; two epochs together have
# the 70 rows. Without steps_per_epoch 3 batches, 70 rows, in each and no warning.
# Why it matters: 42000 rows in batches of 64 are 656 batches and 1 in turn: half of the epochs hardly train, while a
# schedule of the learning rate by epochs goes on. With verbose=0 only the warning tells, and notebooks hide warnings.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export KERAS_BACKEND=tensorflow KERAS_HOME="$folder" TF_CPP_MIN_LOG_LEVEL=3
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet keras==3.15.1 tensorflow-cpu==2.21.0 numpy==2.4.6 pillow==13.0.0
"$folder/env/bin/python" - <<'PYTHON'
import warnings

import keras
import numpy as np
import tensorflow as tf

images, labels = np.zeros((70, 4, 4, 1), "float32"), np.zeros((70, 1), "float32")


def train(**options):
    """Return the rows of each batch by epoch, and the number of warnings that the data ran out."""
    epochs = []

    def loss(true, predicted):
        epochs[-1].append(int(true.shape[0]))
        return keras.losses.mean_squared_error(true, predicted)

    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    network.compile("sgd", loss=loss, run_eagerly=True)
    batches = tf.keras.preprocessing.image.ImageDataGenerator().flow(images, labels, batch_size=32)
    assert len(batches) == 3
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append([]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network.fit(batches, epochs=4, callbacks=[begin], verbose=0, **options)
    return epochs, sum("ran out of data" in str(warning.message) for warning in caught)


for options, expected, together, warned in (({"steps_per_epoch": 70 // 32}, [2, 1, 2, 1], 2, 2), ({}, [3] * 4, 1, 0)):
    epochs, count = train(**options)
    print(f"Keras {keras.__version__}: {options or 'no steps_per_epoch'}: rows {epochs}, {count} warnings")
    assert [len(rows) for rows in epochs] == expected and count == warned
    assert all(sum(map(sum, epochs[start : start + together])) == 70 for start in range(0, 4, together))
PYTHON
