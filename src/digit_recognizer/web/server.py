"""Web page to draw digits on, served on the loopback interface only.

Built on Starlette and uvicorn: BSD-licensed, maintained, half a dozen small packages. Gradio's Sketchpad reports a
drawing only at the end of a stroke, needs about a hundred packages, and loads fonts from other hosts.
"""

import base64
import contextlib
import csv
import datetime
import fcntl
import hashlib
import io
import os
import re
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing
from digit_recognizer.handwriting.image_files import LABELS, decode
from digit_recognizer.handwriting.reader import SURE, Read, Reading

HOST = "127.0.0.1"
UPLOAD_LIMIT = 20_000_000  # bytes; static/page.js has the same limit
PREVIEW_SIDE = 1200  # pixels
LABEL = re.compile("[0-9](?:[0-9 ]{0,18}[0-9])?")  # a space separates rows of digits
STATIC = Path(__file__).with_name("static")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(read: Read, folder: Path, *, port: int, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl+C.

    Args:
        read: Reads the digits in pictures.
        folder: Folder for labelled drawings.
        port: Port to listen on; 0 picks a free one.
        browser: Open the page in the default browser.
        say: Prints the address of the page.

    Raises:
        UserError: The port is in use or not allowed.
    """
    with listen(port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        say(f"Draw at {address} (press Ctrl+C to stop)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        settings = uvicorn.Config(
            make_app(read, folder), log_level="warning", server_header=False, timeout_graceful_shutdown=1
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after its shutdown
            uvicorn.Server(settings).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback interface.

    Raises:
        UserError: The port is in use or not allowed.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"expected a port from 0 to 65535, received {port}; choose another --port")
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"expected a free port, found that {port} is not ({reason}); choose another --port") from None


def make_app(read: Read, folder: Path) -> Starlette:
    """Return the web application.

    `POST /read` takes an image file and returns its digits, with `?preview` also the decoded picture.
    `POST /save?label=7` stores an image file in the folder. All other paths are static files.

    Args:
        read: Reads the digits in pictures.
        folder: Folder for labelled drawings.
    """
    one_at_a_time = anyio.CapacityLimiter(1)

    async def read_picture(request: Request) -> Response:
        content = await _read_body(request)

        def run() -> dict[str, Any]:
            picture = decode(content)
            result = _describe(read([picture])[0]) | {"width": picture.shape[1], "height": picture.shape[0]}
            if "preview" in request.query_params:
                result["preview"] = _make_data_url("jpeg", picture, PREVIEW_SIDE)
            return result

        return JSONResponse(await anyio.to_thread.run_sync(run, limiter=one_at_a_time))

    async def save_picture(request: Request) -> Response:
        label = request.query_params.get("label", "")
        if not LABEL.fullmatch(label):
            raise UserError(f"expected a label of 1 to 20 digits, received {label[:30]!r}")
        content = await _read_body(request)

        def run() -> Path:
            return save_labelled(decode(content), label, folder)

        return JSONResponse({"path": str(await anyio.to_thread.run_sync(run, limiter=one_at_a_time))})

    return Starlette(
        routes=[
            Route("/read", read_picture, methods=["POST"]),
            Route("/save", save_picture, methods=["POST"]),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[
            Middleware(_SameOriginMiddleware),
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", HOST], www_redirect=False),
        ],
        exception_handlers={
            UserError: lambda _, error: _make_error(422, str(error)),
            HTTPException: lambda _, error: _make_error(error.status_code, error.detail),
            ClientDisconnect: lambda *_: Response(status_code=400),
            OSError: lambda _, error: _make_error(500, f"could not save: {error}"),
        },
    )


class _SameOriginMiddleware:
    """Refuse requests sent by pages of other origins, and add the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self.app
        if scope["type"] == "http":
            headers = Request(scope).headers
            if headers.get("origin") not in (None, f"http://{headers.get('host')}"):
                app = _make_error(403, "expected a request from this page, received one from another site")
        await app(scope, receive, send_with_headers)


def save_labelled(picture: np.ndarray, label: str, folder: Path) -> Path:
    """Write a picture as PNG into a folder and append it to the folder's labels.csv.

    Args:
        picture: uint8 [h, w, 3], RGB.
        label: The digits in the picture.
        folder: Created if it does not exist.

    Returns:
        The path of the file; its name contains the time and a hash, so that no file is overwritten.

    Raises:
        UserError: labels.csv exists without the columns path and label.
    """
    content = _encode("png", picture)
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    path = folder / f"{time}-{hashlib.sha256(content).hexdigest()[:8]}.png"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LABELS).open("a+", encoding="utf-8", newline="") as table:
        fcntl.flock(table, fcntl.LOCK_EX)  # released when the file is closed
        table.seek(0)
        text = table.read().removeprefix("\ufeff")
        columns = next(csv.reader(io.StringIO(text)), [])
        if text and not {"path", "label"} <= set(columns):
            raise UserError(
                f"expected the columns path and label in {table.name}, found {','.join(columns)!r}; move the file away"
            )
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        writer = csv.DictWriter(table, columns or ["path", "label"], restval="", lineterminator="\n")
        if not text:
            writer.writeheader()
        elif not text.endswith("\n"):
            table.write("\n")
        writer.writerow({"path": path.name, "label": label})
    return path


async def _read_body(request: Request) -> bytes:
    """Return the body of a request; stop reading as soon as it exceeds the limit."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > UPLOAD_LIMIT:
            limit = f"{UPLOAD_LIMIT // 10**6} MB"
            raise HTTPException(413, f"expected a picture of at most {limit}, received a larger file")
    return bytes(content)


def _describe(reading: Reading) -> dict[str, Any]:
    digits = [
        {
            "digit": digit.digit,
            "sure": digit.probability >= SURE,
            "probabilities": [round(float(value), 4) for value in digit.probabilities],
            "box": [int(value) for value in digit.box],
            "image": _make_data_url("png", digit.image),
        }
        for row in reading.rows
        for digit in row
    ]
    return {"text": reading.text, "digits": digits}


def _make_data_url(kind: str, picture: np.ndarray, side: int = 0) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(_encode(kind, picture, side)).decode()}"


def _encode(kind: str, picture: np.ndarray, side: int = 0) -> bytes:
    """Return an image file of a picture, scaled down to a longest side if one is given."""
    image, file = Image.fromarray(picture), io.BytesIO()
    if side:
        image.thumbnail((side, side))
    image.save(file, kind)
    return file.getvalue()


def _make_error(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": line}, status_code=status)
