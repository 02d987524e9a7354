"""Run a notebook as a Kaggle session does: in a folder with the layout of /kaggle, from start to end, offline.

    python tests/execute_notebook.py NOTEBOOK ROOT

ROOT replaces /kaggle: ROOT/input exists, ROOT/working is created. ROOT/executed.ipynb is the notebook with its
outputs, ROOT/log.json its text as Kaggle's log. The exit status is 1 if a cell fails. ROOT/connections.txt lists the
hosts outside this machine that a process tried to reach.

It needs nbclient and ipykernel, and no package of this repository.
"""

import json
import os
import sys
from pathlib import Path

# sitecustomize.py of every Python process, also of those that the notebook starts.
NO_NETWORK = r"""
import os
import socket

LOOPBACK = {"localhost", "127.0.0.1", "::1", "", None}


def guard(function, host_of):
    def guarded(*args, **kwargs):
        host = host_of(*args)
        if (host.decode() if isinstance(host, bytes) else host) not in LOOPBACK:
            with open(os.environ["CONNECTIONS"], "a") as file:
                file.write(f"{host}\n")
            raise socket.gaierror(f"no network: {host}")
        return function(*args, **kwargs)

    return guarded


def address_host(_, address, *__):
    return address[0] if isinstance(address, tuple) else None


socket.getaddrinfo = guard(socket.getaddrinfo, lambda host, *_: host)
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, guard(getattr(socket.socket, name), address_host))
"""


def execute(notebook: Path, root: Path) -> int:
    """Run a notebook and write its outputs; return the exit status."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    working, early = root / "working", root / "early"
    for folder in (working, early, root / "home"):
        folder.mkdir(parents=True, exist_ok=True)
    (early / "sitecustomize.py").write_text(NO_NETWORK)
    os.environ.update(
        KAGGLE_ROOT=str(root), PYTHONPATH=str(early), CONNECTIONS=str(root / "connections.txt"), HOME=str(root / "home")
    )
    content, status = nbformat.read(notebook, as_version=4), 0
    try:
        NotebookClient(content, timeout=3600, resources={"metadata": {"path": str(working)}}).execute()
    except CellExecutionError:
        status = 1
    nbformat.write(content, root / "executed.ipynb")
    log = [
        {"stream_name": output.get("name", "stderr"), "time": 0.0, "data": text}
        for cell in content.cells
        for output in cell.get("outputs", ())
        if (text := output.get("text") or "\n".join(output.get("traceback", ())))
    ]
    (root / "log.json").write_text(json.dumps(log))
    return status


if __name__ == "__main__":
    sys.exit(execute(Path(sys.argv[1]), Path(sys.argv[2])))
