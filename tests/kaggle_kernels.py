"""The kernels of a loopback Kaggle: notebooks are pushed, executed and listed, and their output is served."""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slugify import slugify

EXECUTE = Path(__file__).with_name("execute_notebook.py")


class Kernels:
    """The kernels of one account; the public methods take requests and return responses of Kaggle's API."""

    def __init__(self, user: str, competition: str, archive: Callable[[], bytes], refuse: type[Exception]) -> None:
        """Start without kernels; the attributes can be changed at any time.

        Args:
            user: owner of the kernels.
            competition: the only valid input of a kernel.
            archive: returns the zip file of that input.
            refuse: makes an error of a status and a text.
        """
        self.user, self.competition, self._archive, self._refuse = user, competition, archive, refuse
        self.versions: dict[str, list[dict[str, Any]]] = {}  # by kernel, oldest first
        self.polls_until_running = 0  # number of times that a new version is reported as queued
        self.polls_until_ended = 0  # number of times that it is reported as running, if not executed
        self.output: dict[str, bytes] | None = None  # of every new version; None to execute it
        self.failure: str | None = None  # message of every new version that is not executed
        self.end = "ERROR"  # status of a failed version
        self.log: list[str] = []  # lines of its log
        self.saved_as: dict[str, str] = {}  # names under which Kaggle saves kernels, by the names in the requests
        self._processes: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        """Kill running kernels."""
        for process in self._processes:
            process.kill()

    def save(self, request: dict[str, Any]) -> dict[str, Any]:
        """Save a version and start it."""
        user, _, name = request["slug"].partition("/")
        title = request["newTitle"]
        if user != self.user:
            raise self._refuse(403, "Permission 'kernels.update' was denied")
        if slugify(title) != name:
            raise self._refuse(409, "The slug of the title differs")
        name = self.saved_as.get(name, name)
        cells = json.loads(request["text"])["cells"]
        if not all(isinstance(cell["source"], str) for cell in cells):
            raise self._refuse(400, "source must be a string")
        versions = self.versions.setdefault(name, [])
        version = {"request": request, "status": "QUEUED", "polls": 0, "failure": None, "log": "", "files": {}}
        versions.append(version)
        if self.output is None:
            threading.Thread(target=self._run, args=(version,), daemon=True).start()
        invalid = [source for source in request["competitionDataSources"] if source != self.competition]
        return {
            "ref": f"/code/{user}/{name}",
            "url": f"https://www.kaggle.com/code/{user}/{name}",
            "versionNumber": len(versions),
            "invalidCompetitionSources": invalid,
        }

    def status(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the status of the latest version."""
        version = self._latest(request)
        version["polls"] += 1
        made = self.output is not None
        if version["status"] == "QUEUED" and version["polls"] > self.polls_until_running:
            version["status"] = "RUNNING"
        if version["status"] == "RUNNING" and made and version["polls"] > self.polls_until_ended:
            log = json.dumps([{"stream_name": "stdout", "time": 1.0, "data": f"{line}\n"} for line in self.log])
            version.update(log=log, failure=self.failure, status=self.end if self.failure else "COMPLETE")
            version["files"] = {} if self.failure else dict(self.output)
        if version["status"] == "RUNNING" and "end" in version:
            version["status"] = version["end"]
        response = {"status": version["status"]}
        return response | ({"failureMessage": version["failure"]} if version["failure"] else {})

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the source of the latest version, with the metadata that Kaggle adds."""
        version = self._latest(request)
        content = json.loads(version["request"]["text"])
        content["metadata"]["kaggle"] = {"isInternetEnabled": version["request"]["enableInternet"]}
        kind = {"slug": request["kernelSlug"], "language": "python", "kernelType": "notebook"}
        return {"metadata": {"id": 1}, "blob": kind | {"source": json.dumps(content)}}

    def list_output(self, request: dict[str, Any], signed: Callable[[str], str]) -> dict[str, Any]:
        """List the files of the latest version with their URLs, one page at a time, and its log."""
        version = self._latest(request)
        start, size = int(request.get("pageToken") or 0), 5
        names = sorted(version["files"])
        place = f"/kernels/{request['kernelSlug']}"
        files = [{"fileName": name, "url": signed(f"{place}/{name}")} for name in names[start : start + size]]
        following = str(start + size) if start + size < len(names) else ""
        return {"files": files, "log": version["log"], "nextPageToken": following}

    def file(self, path: str) -> bytes:
        """Return a file of the output by its path in the storage."""
        _, _, name, file = path.split("/", 3)
        return self.versions[name][-1]["files"][file]

    def _latest(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["userName"] != self.user or request["kernelSlug"] not in self.versions:
            raise self._refuse(403, "Permission 'kernels.get' was denied")
        return self.versions[request["kernelSlug"]][-1]

    def _run(self, version: dict[str, Any]) -> None:
        """Execute a version in a folder with the layout of /kaggle."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if version["request"]["competitionDataSources"] == [self.competition]:
                with zipfile.ZipFile(io.BytesIO(self._archive())) as archive:
                    archive.extractall(root / "input" / "competitions" / self.competition)
            (root / "notebook.ipynb").write_text(version["request"]["text"])
            process = subprocess.Popen(
                [sys.executable, EXECUTE, root / "notebook.ipynb", root],
                env={"PATH": os.environ["PATH"]},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._processes.append(process)
            good = process.wait() == 0
            working = root / "working"
            made = [path for path in working.rglob("*") if path.is_file()]
            version["files"] = {path.relative_to(working).as_posix(): path.read_bytes() for path in made}
            log = root / "log.json"
            version["log"] = log.read_text() if log.exists() else ""
        version["failure"] = None if good else "Your notebook was stopped because a cell failed."
        version["end"] = "COMPLETE" if good else "ERROR"
