#!/usr/bin/env bash
# Reading a colour PNG with IMREAD_GRAYSCALE is not reading it in colour and converting with cvtColor: half of the
# pixels differ by 1, since another library's weights and rounding are used. For JPEG with the same two ways, the
# differences are larger (the file's own brightness channel is taken). Pillow agrees with cvtColor on all but 0.05%.
# Versions: opencv-python-headless 5.0.0.93 (4.13.0.92 the same), pillow 13.0.0, numpy 2.4.6.
# Seen: PNG: 49% of the pixels differ, by at most 1; JPEG (quality 90): 1.3% differ, by up to 11; Pillow and cvtColor:
# 0.05% differ, by at most 1.
# Why it matters: prepare a digit's photograph in one way for training and in another in the service, and the network
# sees other pixels; a test that compares both bit for bit fails with PNG, the format that keeps every pixel.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from PIL import Image

colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def compare(name, first, second):
    """Print and return the share of pixels that differ and the largest difference."""
    difference = np.abs(first.astype(int) - second.astype(int))
    share, largest = float((difference > 0).mean()), int(difference.max())
    print(f"{name}: {share:.2%} of the pixels differ, by at most {largest}")
    return share, largest


results = {}
for suffix, options in ((".png", []), (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])):
    content = cv2.imencode(suffix, colour, options)[1]
    direct = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    converted = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
    results[suffix] = compare(f"{suffix}: read as grey and converted to grey", direct, converted)
share, largest = results[".png"]
assert share > 0.3 and largest == 1
share, largest = results[".jpg"]
assert 0.005 < share < 0.1 and largest > 5

pillow = np.asarray(Image.fromarray(colour).convert("L"))
share, largest = compare("Pillow and cvtColor", pillow, cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
assert share < 0.01 and largest <= 1
PYTHON
