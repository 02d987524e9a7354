#!/usr/bin/env bash
# Image.crop of Pillow rounds each end of the box by itself, half to even. A box of 25x25 pixels in the centre of a
# picture of 28x28, (1.5, 1.5, 26.5, 26.5), becomes (2, 2, 26, 26): a picture of 24x24, without a warning. A box of the
# same size one pixel to the left and up gives 26x26.
# Versions: pillow 13.0.0.
# Seen on 2026-12-01: (1.5, 1.5, 26.5, 26.5): 24x24, the pixels 2 to 25; (0.5, 0.5, 25.5, 25.5): 26x26, 0 to 25.
# Why it matters: the centre crop of an odd size from a picture of an even size is such a box, if it is computed as the
# half of the difference. Its pictures lack a row and a column, and have another size than random crops of whole pixels.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pillow==13.0.0
"$folder/env/bin/python" - <<'PYTHON'
import warnings

import PIL
from PIL import Image

warnings.simplefilter("error")
columns = Image.new("L", (28, 28))
columns.putdata([column for _ in range(28) for column in range(28)])  # each pixel is the number of its column
for start, expected in ((1.5, range(2, 26)), (0.5, range(26))):
    box = (start, start, start + 25, start + 25)
    crop = columns.crop(box)
    first, last = crop.getextrema()
    print(f"Pillow {PIL.__version__}: crop({box}): {crop.width}x{crop.height}, columns {first} to {last}")
    assert crop.size == (len(expected), len(expected))
    assert (first, last) == (expected[0], expected[-1])
PYTHON
