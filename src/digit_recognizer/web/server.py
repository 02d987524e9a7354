"""A page to draw on, served to this computer alone.

Starlette and uvicorn serve it: BSD, well kept, half a dozen small packages. Gradio's Sketchpad answers only when a
stroke ends, weighs a hundred packages, and asks other hosts for fonts.
"""

import base64
import contextlib
import csv
import datetime
import fcntl
import hashlib
import io
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digit_recognizer import files
from digit_recognizer.config import CLASSES
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting.image_files import LABELS, decode
from digit_recognizer.handwriting.reader import SURE, Digit, Read

HOST = "127.0.0.1"
UPLOAD_LIMIT = 20_000_000  # bytes; page.js knows it too
PREVIEW_SIDE = 1200  # pixels
PAGE = Path(__file__).with_name("static")
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


def serve(run_dir: Path, folder: Path, *, port: int, browser: bool, say: Callable[[str], None]) -> None:
    """Serves the page until Ctrl+C.

    Args:
        run_dir: of the run whose networks answer; they are loaded once.
        folder: where labelled drawings go.
        port: 0 for any that is free.
        browser: whether to open the page in one.
        say: is told the page's address.

    Raises:
        UserError: the port is in use or not allowed.
    """
    with listen(port) as listener:
        from digit_recognizer.pipeline import load_reader

        read = load_reader(run_dir)
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        say(f"Draw at {address} (Ctrl+C ends)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        app = make_app(read, folder)
        settings = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
            uvicorn.Server(settings).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """Returns a socket that listens on this computer alone.

    Raises:
        UserError: the port is in use or not allowed.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"expected port {port} to be free, found that it is not ({error}); name another --port"
        ) from None
    return listener


def make_app(read_pictures: Read, folder: Path) -> Starlette:
    """Returns the page's application.

    `POST /read` takes a picture file and answers with its digits, with `?preview=1` also with the picture as it was
    understood; `POST /save?label=7` keeps a picture in the folder; everything else is the page's files.

    Args:
        read_pictures: reads pictures.
        folder: where labelled drawings go.
    """
    one_at_a_time = anyio.CapacityLimiter(1)

    async def read(request: Request) -> Response:
        content = await _body(request)

        def answer() -> dict[str, Any]:
            picture = decode(content)
            reading = read_pictures([picture])[0]
            result = _describe(reading.rows) | {"width": picture.shape[1], "height": picture.shape[0]}
            return result | ({"preview": _preview(picture)} if "preview" in request.query_params else {})

        return JSONResponse(await anyio.to_thread.run_sync(answer, limiter=one_at_a_time))

    async def save(request: Request) -> Response:
        label = request.query_params.get("label", "")
        if label not in [str(digit) for digit in range(CLASSES)]:
            raise UserError(f"expected a label from 0 to 9, received {label[:20]!r}")
        content = await _body(request)

        def keep() -> Path:
            return save_labelled(decode(content), int(label), folder)

        path = await anyio.to_thread.run_sync(keep, limiter=one_at_a_time)
        return JSONResponse({"path": str(path)})

    return Starlette(
        routes=[
            Route("/read", read, methods=["POST"]),
            Route("/save", save, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(_Guard),
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", HOST], www_redirect=False),
        ],
        exception_handlers={
            UserError: lambda _, error: _refusal(422, str(error)),
            HTTPException: lambda _, error: _refusal(error.status_code, error.detail),
            ClientDisconnect: lambda *_: Response(status_code=400),
            OSError: lambda _, error: _refusal(500, f"could not save: {error}"),
        },
    )


class _Guard:
    """Refuses requests that another site's page sends, and adds the headers that keep the page to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Request(scope).headers
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers.get('host')}":
            await _refusal(403, "expected a request of this page, received one of another site")(
                scope, receive, send_guarded
            )
            return
        await self.app(scope, receive, send_guarded)


def save_labelled(picture: np.ndarray, label: int, folder: Path) -> Path:
    """Writes a picture as PNG into a folder and adds it to the folder's labels.csv.

    Args:
        picture: uint8 [h, w, 3], RGB.
        label: what is on it, 0 to 9.
        folder: made where it is missing.

    Returns:
        The file; its name is made of the time and the content, so that none is written over.

    Raises:
        UserError: there is a labels.csv without the columns path and label.
    """
    content = _encode(".png", picture)
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    path = folder / f"{time}-{hashlib.sha256(content).hexdigest()[:8]}.png"
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)
    try:
        _append_label(folder / LABELS, path.name, label)
    except UserError:
        path.unlink()
        raise
    return path


def _append_label(table: Path, name: str, label: int) -> None:
    """Adds a line in one write, under a lock that other servers respect too."""
    with table.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = file.read().decode()
        columns = next(csv.reader(io.StringIO(found)), [])
        if found and not {"path", "label"} <= set(columns):
            raise UserError(
                f"expected the columns path and label in {table}, found {','.join(columns)!r}; move it away"
            )
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or ["path", "label"], restval="", lineterminator="\n")
        if not found:
            writer.writeheader()
        elif not found.endswith("\n"):
            text.write("\n")
        writer.writerow({"path": name, "label": label})
        file.write(text.getvalue().encode())


async def _body(request: Request) -> bytes:
    """Returns what was sent, and stops reading where it becomes too much."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > UPLOAD_LIMIT:
            raise HTTPException(
                413, f"expected a picture of at most {UPLOAD_LIMIT // 10**6} MB, received a larger file"
            )
    return bytes(content)


def _describe(rows: list[list[Digit]]) -> dict[str, Any]:
    """Returns what was read as a value that JSON can hold."""
    digits = [
        {
            "digit": digit.digit,
            "sure": digit.probability >= SURE,
            "probabilities": [round(float(value), 4) for value in digit.probabilities],
            "box": [int(value) for value in digit.box],
            "image": _data_url("image/png", _encode(".png", digit.image)),
        }
        for row in rows
        for digit in row
    ]
    return {"text": "\n".join("".join(str(digit.digit) for digit in row) for row in rows), "digits": digits}


def _preview(picture: np.ndarray) -> str:
    factor = min(1, PREVIEW_SIDE / max(picture.shape))
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else picture
    return _data_url("image/jpeg", _encode(".jpg", small))


def _encode(suffix: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(suffix, picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _refusal(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": line}, status_code=status)
