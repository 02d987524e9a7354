#!/usr/bin/env bash
# Otsu's threshold of a page without any writing, all pixels 77, is 0 in OpenCV: the whole page counts as foreground.
# scikit-image, for the same page, gives 77: nothing is above it. The one calls everything ink, the other nothing.
# On two grey levels, 50 and 200, they agree: both give 50.
# Versions: opencv-python-headless 5.0.0.93, scikit-image 0.26.0.
# Seen: OpenCV: threshold 0, 100 of 100 pixels foreground; scikit-image: threshold 77, 0 of 100; two levels: 50 and 50.
# Why it matters: a reader of photographs that tests on pages with digits meets an empty field of a form at a user's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-python-headless==5.0.0.93 scikit-image==0.26.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from skimage.filters import threshold_otsu

blank = np.full((10, 10), 77, np.uint8)
threshold, mask = cv2.threshold(blank, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
level = threshold_otsu(blank)
print(f"blank page: OpenCV {threshold}, {int((mask > 0).sum())} of 100 pixels are foreground")
print(f"blank page: scikit-image {level}, {int((blank > level).sum())} of 100 pixels are foreground")
assert threshold == 0 and (mask == 255).all()
assert level == 77 and not (blank > level).any()

levels = np.where(np.arange(100).reshape(10, 10) < 30, 200, 50).astype(np.uint8)
threshold, mask = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
print(f"levels 50 and 200: OpenCV {threshold}, scikit-image {threshold_otsu(levels)}")
assert threshold == threshold_otsu(levels) == 50
PYTHON
