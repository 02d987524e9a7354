"""A loopback Kaggle that implements the part of the protocol used by the official client, unmodified.

KAGGLE_API_ENVIRONMENT=LOCALHOST makes the client call http://localhost, and http_proxy points to this server, which
therefore receives the requests for every host: the API, and the storage with its signed URLs.

In tests it is a context manager, and `fail` scripts failures. On the command line, and in CI, it is a program:

    python tests/kaggle_server.py --zip digit-recognizer.zip --port 8000 > environment.sh &
    . ./environment.sh
    make download train submit push PRESET=fast

A pushed kernel is executed, without a network, on the files of the archive. The program prints one line, which exports
the variables for the client. Only Kaggle has the labels of test.csv: without `labels`, every valid submission scores
0.00000.
"""

import argparse
import base64
import contextlib
import datetime
import email.utils
import hashlib
import json
import secrets
import socket
import struct
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from kaggle_kernels import Kernels

API_HOST = "localhost"
STORAGE_HOST = "storage.example"
TOKEN = "loopback-token"  # noqa: S105 - accepted nowhere else
USERNAME, KEY = "loopback", "loopback-key"
ROWS = 28_000  # of test.csv
MODIFIED = "Fri, 01 Nov 2019 12:00:00 GMT"


@dataclass
class Reply:
    """A response."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0  # seconds to wait after sending it


@dataclass(kw_only=True)
class Fault:
    """A scripted failure of one request."""

    status: int = 0  # of the response; 0 for the normal response
    body: Any = None  # JSON of that response; None for an error in Kaggle's format
    headers: dict[str, str] = field(default_factory=dict)
    obey: bool = False  # process the request in spite of the failure
    delay: float = 0  # seconds before the response
    cut: int | None = None  # truncate the body of the normal response to this number of bytes
    stall: float = 0  # seconds before the connection is closed after that
    content: bytes | None = None  # replaces the file, or the body of the response
    reset: bool = False  # reset the connection without a response


class RefusedError(Exception):
    """An error in Kaggle's current format."""

    def __init__(self, status: int, message: str) -> None:
        """Make the response."""
        super().__init__(message)
        self.reply = Reply(status, _json({"error": {"code": status, "message": message}}), _JSON_HEADERS)


class KaggleServer:
    """The account, the competition and the storage of a loopback Kaggle, served inside a `with` block."""

    def __init__(self, archive: bytes, *, port: int = 0) -> None:
        """Bind a port on 127.0.0.1, by default any free one; `archive` is the competition's zip file."""
        self.archive = archive
        self.competition = "digit-recognizer"
        self.rules_accepted = True
        self.tokens = {TOKEN}
        self.polls_until_scored = 0  # number of times that a new submission is listed as pending
        self.labels: list[int] | None = None  # of test.csv, for the score
        self.scoring_error: str | None = None  # of every new submission
        self.shown: Callable[[str], str] = str  # changes the description of a submission
        self.kernels = Kernels(USERNAME, self.competition, lambda: self.archive, RefusedError)
        self.submissions: list[dict[str, Any]] = []  # newest first, as the API sends them
        self.requests: list[str] = []  # names of methods, "download" and "upload", in order
        self.ranges: list[str | None] = []  # Range headers of the downloads
        self.closing = threading.Event()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._uploads: dict[str, dict[str, Any]] = {}  # by token
        self._pending: dict[int, int] = {}  # polls left, by submission
        self._signature = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._methods: dict[str, Callable[[dict[str, Any]], dict[str, Any] | Reply]] = {
            "security.OAuthService/IntrospectToken": self._introspect_token,
            "competitions.CompetitionApiService/DownloadDataFiles": self._download_data_files,
            "competitions.CompetitionApiService/ListSubmissions": self._list_submissions,
            "competitions.CompetitionApiService/StartSubmissionUpload": self._start_submission_upload,
            "competitions.CompetitionApiService/CreateSubmission": self._create_submission,
            "kernels.KernelsApiService/SaveKernel": self.kernels.save,
            "kernels.KernelsApiService/GetKernelSessionStatus": self.kernels.status,
            "kernels.KernelsApiService/GetKernel": self.kernels.get,
            "kernels.KernelsApiService/ListKernelSessionOutput": self._list_kernel_output,
        }
        self._http = _HTTPServer(("127.0.0.1", port), _Handler)
        self._http.kaggle = self

    def __enter__(self) -> Self:
        """Start serving."""
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once, whatever is delayed."""
        self.closing.set()
        self.kernels.close()
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for the client."""
        address = f"http://127.0.0.1:{self._http.server_port}"
        # The storage is another host; without an empty no_proxy, localhost would be called directly.
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": address, "no_proxy": "", "NO_PROXY": ""}

    def fail(self, name: str, *, times: int = 1, **fault: Any) -> None:
        """Script the failure of the next requests, with the fields of `Fault`.

        `name` is a method ("ListSubmissions"), "download", "upload", or a file of a kernel's output.
        """
        self._faults[name].extend([Fault(**fault)] * times)

    def handle(self, verb: str, url: str, headers: Any, body: bytes) -> Reply | None:
        """Return the response to a request, None for a reset connection."""
        parts = urlsplit(url)
        storage = {"GET": "download", "PUT": "upload"}.get(verb)
        name = parts.path.rpartition("/")[2] if parts.path.startswith("/kernels/") else storage
        name = name or parts.path.rpartition("/")[2]
        with self._lock:
            self.requests.append(name)
            fault = self._faults[name].popleft() if self._faults[name] else Fault()
            reply = Reply()
            if fault.obey or not (fault.status or fault.reset):
                try:
                    if storage:
                        reply = self._handle_storage(verb, parts, headers, body, fault.content)
                    else:
                        reply = self._handle_method(parts, headers, body, fault.content)
                except RefusedError as refusal:
                    reply = refusal.reply
        self.closing.wait(fault.delay)
        if fault.reset:
            return None
        if fault.status:
            reply = RefusedError(fault.status, f"scripted {fault.status}").reply
            if fault.body is not None:
                reply.body = _json(fault.body)
        reply.headers = reply.headers | fault.headers
        if fault.cut is not None:
            reply.headers["Content-Length"] = str(len(reply.body))
            reply.body = reply.body[: fault.cut]
            reply.stall = fault.stall
        return reply

    def _handle_method(self, parts: Any, headers: Any, body: bytes, content: bytes | None) -> Reply:
        if parts.hostname != API_HOST or not parts.path.startswith("/api/v1/"):
            raise RefusedError(404, f"no such address: {parts.hostname}{parts.path}")
        name = parts.path.removeprefix("/api/v1/")
        if name not in self._methods:
            raise RefusedError(404, f"no such method: {name}")
        request = json.loads(body or b"{}")
        if not name.startswith("security.") and not self._is_authorised(headers.get("Authorization", "")):
            raise RefusedError(401, "Unauthenticated")
        if request.get("competitionName", self.competition) != self.competition:
            raise RefusedError(404, "Competition not found")
        response = self._methods[name](request)
        if isinstance(response, Reply):
            return response
        return Reply(200, _json(response) if content is None else content, _JSON_HEADERS)

    def _is_authorised(self, header: str) -> bool:
        kind, _, value = header.partition(" ")
        if kind == "Bearer":
            return value in self.tokens
        return kind == "Basic" and base64.b64decode(value) == f"{USERNAME}:{KEY}".encode()

    def _handle_storage(self, verb: str, parts: Any, headers: Any, body: bytes, content: bytes | None) -> Reply:
        if parts.hostname != STORAGE_HOST or parts.query != f"signature={self._signature}":
            raise RefusedError(403, "the signature is invalid")
        if "Authorization" in headers:  # as Google's storage does for a signed URL
            raise RefusedError(400, "only one way of authentication is allowed")
        if verb == "PUT":
            upload = self._uploads[parts.path.rpartition("/")[2]]
            if len(body) != upload["contentLength"]:
                raise RefusedError(400, "the upload has another length than announced")
            upload["content"] = body
            return Reply()
        if parts.path.startswith("/kernels/"):
            return Reply(200, self.kernels.file(unquote(parts.path)) if content is None else content)
        self.ranges.append(headers.get("Range"))
        return _send_range(self.archive if content is None else content, headers)

    def _introspect_token(self, request: dict[str, Any]) -> dict[str, Any]:
        active = request["token"] in self.tokens
        return {"active": active, "username": USERNAME} if active else {"active": False}

    def _download_data_files(self, _: dict[str, Any]) -> Reply:
        self._require_rules()
        return Reply(302, b"", {"Location": self._signed(f"/{self.competition}/archive.zip")})

    def _list_submissions(self, request: dict[str, Any]) -> dict[str, Any]:
        self._require_rules()
        for submission in self.submissions:
            if submission["status"] == "PENDING":
                self._pending[submission["ref"]] -= 1
                if self._pending[submission["ref"]] < 0:
                    submission.update(self._score(submission))
        start = (request.get("page", 1) - 1) * request.get("pageSize", 20)
        page = self.submissions[start : start + request.get("pageSize", 20)]
        return {"submissions": [{key: value for key, value in item.items() if key != "content"} for item in page]}

    def _start_submission_upload(self, request: dict[str, Any]) -> dict[str, Any]:
        self._require_rules()
        token = secrets.token_hex(8)
        self._uploads[token] = request | {"content": None}
        return {"token": token, "createUrl": self._signed(f"/upload/{token}")}

    def _create_submission(self, request: dict[str, Any]) -> dict[str, Any]:
        self._require_rules()
        upload = self._uploads.get(request["blobFileTokens"])
        if upload is None or upload["content"] is None:
            raise RefusedError(400, "the file was not uploaded")
        ref = 30_000_001 + len(self.submissions)
        self._pending[ref] = self.polls_until_scored
        submission = {
            "ref": ref,
            "date": datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat() + "Z",
            "fileName": upload["fileName"],
            "totalBytes": upload["contentLength"],
            "description": self.shown(request.get("submissionDescription", "")),
            "status": "PENDING",
            "content": upload["content"],
        }
        self.submissions.insert(0, submission)
        return {"message": "Successfully submitted to Digit Recognizer", "ref": ref}

    def _list_kernel_output(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.kernels.list_output(request, self._signed)

    def _score(self, submission: dict[str, Any]) -> dict[str, Any]:
        """Check the format of a submission and score it; return the changed fields."""
        if self.scoring_error:
            return {"status": "ERROR", "errorDescription": self.scoring_error}
        lines = submission["content"].decode().split("\r\n")
        rows = [line.split(",") for line in lines[1:-1]]
        if lines[0] != "ImageId,Label" or [row[0] for row in rows] != [str(i + 1) for i in range(ROWS)]:
            return {"status": "ERROR", "errorDescription": f"Submission must have {ROWS} rows"}
        correct = sum(int(row[1]) == label for row, label in zip(rows, self.labels or [], strict=bool(self.labels)))
        return {"status": "COMPLETE", "publicScore": f"{correct / ROWS:.5f}"}

    def _require_rules(self) -> None:
        if not self.rules_accepted:
            raise RefusedError(403, "You must accept this competition's rules before you'll be able to download files.")

    def _signed(self, path: str) -> str:
        return f"http://{STORAGE_HOST}{path}?signature={self._signature}"


def _send_range(content: bytes, headers: Any) -> Reply:
    """Return a file, or the rest of it if the client already has the beginning of the same file."""
    tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    described = {"ETag": tag, "Last-Modified": MODIFIED, "Accept-Ranges": "bytes", "Content-Type": "application/zip"}
    wanted = headers.get("Range")
    if wanted is None or headers.get("If-Range", tag) != tag:
        return Reply(200, content, described)
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return Reply(416, b"", described)
    part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    return Reply(206, content[start:], described | part)


class _HTTPServer(ThreadingHTTPServer):
    kaggle: KaggleServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client closed it
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.server.kaggle.handle(self.command, self.path, self.headers, body)
        if reply is None:
            # A socket that is closed with its unsent data discarded sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        headers = {"Content-Length": str(len(reply.body)), "Date": email.utils.formatdate(usegmt=True)} | reply.headers
        self.send_response_only(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.server.kaggle.closing.wait(reply.stall)
        self.close_connection |= len(reply.body) != int(headers["Content-Length"])

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


_JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A loopback Kaggle for the Digit Recognizer competition.")
    parser.add_argument("--zip", type=Path, required=True, help="the competition's archive")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    arguments = parser.parse_args()
    with (
        KaggleServer(arguments.zip.read_bytes(), port=arguments.port) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        variables = server.environment | {"KAGGLE_API_TOKEN": TOKEN}
        print("export", *(f"{name}={value}" for name, value in variables.items()), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
