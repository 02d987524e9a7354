#!/usr/bin/env bash
# Up to pandas 3.0, read_csv(dtype="uint8") takes 256 as 0, 300 as 44 and -1 as 255, without a warning; a Series made
# with the same dtype from the same numbers refuses them. The reader alone wraps. pandas 3.1 refuses too.
# Versions: pandas 2.3.3 and 3.1.1.
# Seen: 2.3.3: 256 -> 0, 300 -> 44, -1 -> 255; Series: refused. 3.1.1: refused.
# Why it matters: the pixels of train.csv are read as uint8 to save memory. A damaged or wrongly scaled file becomes
# another picture with plausible numbers, and a check of the range after reading cannot see it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
cat > "$folder/check.py" <<'PYTHON'
import io
import sys

import pandas as pd

wraps = sys.argv[1] == "wraps"
text = "pixel0,pixel1,pixel2\n256,300,-1\n"
try:
    result = pd.read_csv(io.StringIO(text), dtype="uint8").values.tolist()
except (OverflowError, ValueError) as error:
    result = f"refused: {error}"
print(f"pandas {pd.__version__}: read_csv: {result}")
if wraps:
    assert result == [[0, 44, 255]]
else:
    assert str(result).startswith("refused")

try:
    pd.Series([256, 300, -1], dtype="uint8")
except (OverflowError, ValueError) as error:
    print(f"pandas {pd.__version__}: Series: refused: {error}")
else:
    sys.exit("a Series takes these numbers now")
PYTHON
"$folder/env/bin/pip" install --quiet pandas==2.3.3 numpy==2.4.6
"$folder/env/bin/python" "$folder/check.py" wraps
"$folder/env/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
"$folder/env/bin/python" "$folder/check.py" refuses
