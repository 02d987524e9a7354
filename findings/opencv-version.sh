#!/usr/bin/env bash
# opencv-python and opencv-python-headless both write the folder cv2. Installed side by side (two packages ask for one
# each, pip sees no conflict), the last one wins, but both stay registered: importlib.metadata reports a version for
# opencv-python-headless that is not the one that runs. Uninstalling one takes away the files of both, while the other
# still counts as installed and "pip install" of it says that nothing is to be done.
# Versions: opencv-python-headless 4.12.0.88, opencv-python 4.13.0.92.
# Seen: metadata says 4.12.0.88, cv2 says 4.13.0; pip check is content; after the uninstall of opencv-python there is no
# cv2, and metadata still says 4.12.0.88.
# Why it matters: a record of versions beside a trained network should ask cv2.__version__, not the package's metadata.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-python-headless==4.12.0.88 numpy==2.2.6
"$folder/env/bin/pip" install --quiet opencv-python==4.13.0.92 numpy==2.2.6
"$folder/env/bin/pip" check
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import pathlib
import sysconfig

version = importlib.metadata.version("opencv-python-headless")
source = pathlib.Path(sysconfig.get_path("platlib"), "cv2", "version.py").read_text()
print(f"both installed: metadata {version}, cv2: {source.splitlines()[0]}")
assert version == "4.12.0.88"
assert "4.13.0" in source
PYTHON
"$folder/env/bin/pip" uninstall --quiet --yes opencv-python
"$folder/env/bin/pip" install opencv-python-headless==4.12.0.88 | grep "already satisfied: opencv-python-headless"
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import importlib.util

version = importlib.metadata.version("opencv-python-headless")
there = importlib.util.find_spec("cv2") is not None
print(f"opencv-python uninstalled: metadata {version}, cv2 is there: {there}")
assert version == "4.12.0.88"
assert not there
PYTHON
