#!/usr/bin/env bash
# A pipeline of Albumentations with seed=5, written with to_dict and made again with from_dict, has lost its seed: the
# dictionary has none, and the copy draws other random numbers at every start. A copy by pickle keeps seed and state.
# numpy.random.seed and random.seed have no effect on either.
# Versions: albumentations 2.0.8, opencv-python-headless 4.13.0.92, numpy 2.2.6.
# Seen: "seed" not in the dictionary; two pipelines made from it: different sums; pickle: equal sums.
# Why it matters: the dictionary is what is kept beside a trained network to repeat its augmentation. It says everything
# but the one number without which the pictures cannot be made again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export NO_ALBUMENTATIONS_UPDATE=1
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet albumentations==2.0.8 opencv-python-headless==4.13.0.92 numpy==2.2.6
"$folder/env/bin/python" - <<'PYTHON'
import pickle
import random

import albumentations
import numpy as np

image = (np.arange(784) % 251).astype(np.uint8).reshape(28, 28, 1)


def draw(pipeline):
    """Return the sums of five augmented pictures, after the two global seeds are set."""
    random.seed(0)
    np.random.seed(0)
    return [int(pipeline(image=image)["image"].astype(int).sum()) for _ in range(5)]


pipeline = albumentations.Compose([albumentations.Affine(rotate=(-20, 20), p=1)], seed=5)
written = albumentations.to_dict(pipeline)
pickled = pickle.dumps(pipeline)
print("seed in the dictionary:", "seed" in str(written))
assert "seed" not in str(written)

sums = draw(pipeline)
print("original       ", sums)
print("pickle         ", draw(pickle.loads(pickled)))
assert draw(pickle.loads(pickled)) == sums
first, second = (draw(albumentations.from_dict(written)) for _ in range(2))
print("from_dict      ", first)
print("from_dict again", second)
assert first != sums and first != second
PYTHON
