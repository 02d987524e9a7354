#!/usr/bin/env bash
# Ray reads the environment variable RAY_AUTH_MODE once, on import. Set to "token" after "import ray", it is not seen:
# get_authentication_mode() stays 0 (disabled). Set before the import, it is 1 (token).
# Versions: ray 2.60.0.
# Seen on 2026-12-01: not set: 0; set after the import: 0; set before: 1.
# Why it matters: a program that sets it in os.environ just before ray.init() asks for a token in vain, and a module
# imported earlier that imports ray decides. It must be set before the first import, or by the shell.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset RAY_AUTH_MODE
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet ray==2.60.0
cat > "$folder/check.py" <<'PYTHON'
import os
import sys

when, expected = sys.argv[1], int(sys.argv[2])
if when == "before":
    os.environ["RAY_AUTH_MODE"] = "token"

import ray
from ray._raylet import get_authentication_mode

if when == "after":
    os.environ["RAY_AUTH_MODE"] = "token"
mode = int(get_authentication_mode())
print(f"Ray {ray.__version__}: RAY_AUTH_MODE=token, set {when} the import: get_authentication_mode() is {mode}")
assert mode == expected
PYTHON
"$folder/env/bin/python" "$folder/check.py" "neither before nor after" 0
"$folder/env/bin/python" "$folder/check.py" after 0
"$folder/env/bin/python" "$folder/check.py" before 1
