"""Web page to draw digits on, served on the loopback interface only.

Gradio's Sketchpad would report a drawing only at the end of a stroke, and loads fonts from other hosts.
"""

import base64
import contextlib
import datetime
import fcntl
import io
import os
import re
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from digit_recognizer.config import IMAGE_SIZE
from digit_recognizer.errors import UserError, describe_os_error
from digit_recognizer.handwriting.image_files import LABELS, decode, write_png
from digit_recognizer.handwriting.reader import CONFIDENT, Classify, Read

HOST = "127.0.0.1"
UPLOAD_LIMIT = 20_000_000  # bytes; static/backend.js has the same limit
IMAGES_LIMIT = 400  # images classified together
BODY_SECONDS = 10  # for the whole upload
BODIES, CONNECTIONS = 4, 64  # at a time: uploads in memory, and connections that are not refused
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


def serve(
    load: Callable[[], tuple[Read, Classify]],
    folder: Path,
    *,
    name: str,
    port: int,
    browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl+C, and save labelled drawings to a folder.

    `name` is that of the networks. The port is bound before `load` is called, so that a port in use is reported at
    once; 0 picks a free port.

    Raises:
        UserError: The port is in use or not allowed.
    """
    with listen(port) as listener:
        app = make_app(*load(), folder, name=name)
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        say(f"Draw at {address} (press Ctrl+C to stop)")
        say(f"Read by {name}")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        settings = uvicorn.Config(
            app, log_level="warning", server_header=False, timeout_graceful_shutdown=1, limit_concurrency=CONNECTIONS
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after its shutdown
            uvicorn.Server(settings).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback interface; raise `UserError` if the port is not available."""
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"port {port} is not available ({reason}); choose another --port") from None
    # Otherwise a response waits 40 ms for an acknowledgement; asyncio does this for sockets with a protocol number.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_app(read: Read, classify: Classify, folder: Path, *, name: str = "") -> Starlette:
    """Return the web application.

    `POST /read` takes an image file and returns its digits, with `?preview` also the decoded picture; with `?width=320`
    it takes the gray levels of a drawing, which is faster. `POST /classify` takes images, uint8 [n, 28, 28], and
    returns their probabilities, float32. `POST /save?label=7` stores an image file in the folder. `/networks` is the
    name of what reads. All other paths are static files.
    """
    bodies = anyio.CapacityLimiter(BODIES)
    in_thread = partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(1))  # one picture at a time

    async def read_picture(request: Request) -> Response:
        preview, width = "preview" in request.query_params, request.query_params.get("width")
        async with bodies:
            content = await _read_body(request)
            describe = partial(_describe, read=read, preview=preview)
            return JSONResponse(await in_thread(lambda: describe(_to_picture(content, width))))

    async def classify_images(request: Request) -> Response:
        async with bodies:
            images = await _read_body(request)
            if len(images) % IMAGE_SIZE**2 or not 0 < len(images) <= IMAGES_LIMIT * IMAGE_SIZE**2:
                sizes = f"1 to {IMAGES_LIMIT} images of {IMAGE_SIZE**2} bytes"
                raise UserError(f"expected {sizes}, received {len(images)} bytes")
            stack = np.frombuffer(images, np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
            probabilities = await in_thread(lambda: classify(stack))
        return Response(probabilities.astype("<f4").tobytes(), media_type="application/octet-stream")

    async def save_picture(request: Request) -> Response:
        label = request.query_params.get("label", "")
        if not LABEL.fullmatch(label):
            raise UserError(f"expected a label of 1 to 20 digits, received {label[:30]!r}")
        async with bodies:
            content = await _read_body(request)
            path = await in_thread(lambda: save_labelled(_to_picture(content), label, folder))
        return JSONResponse({"path": str(path)})

    return Starlette(
        routes=[
            Route("/read", read_picture, methods=["POST"]),
            Route("/classify", classify_images, methods=["POST"]),
            Route("/save", save_picture, methods=["POST"]),
            Route("/networks", lambda _: JSONResponse(name)),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=_require_same_origin),
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", HOST], www_redirect=False),
        ],
        exception_handlers={
            UserError: lambda _, error: JSONResponse({"error": str(error)}, 422),
            HTTPException: lambda _, error: JSONResponse({"error": error.detail}, error.status_code),
            ClientDisconnect: lambda *_: Response(status_code=400),
            OSError: lambda _, error: JSONResponse({"error": describe_os_error(error)}, 500),
        },
    )


async def _require_same_origin(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Refuse requests sent by pages of other origins, and add the security headers to every response."""
    if request.headers.get("origin") in (None, f"http://{request.headers.get('host')}"):
        response = await call_next(request)
    else:
        response = JSONResponse({"error": "expected a request from this page, received one from another site"}, 403)
    response.headers.update(HEADERS)
    return response


def save_labelled(picture: np.ndarray, label: str, folder: Path) -> Path:
    """Write a picture, uint8 [h, w, 3] RGB, as PNG into a folder and append it to the folder's labels.csv.

    The name of the file contains the time and a random number, so that no file is overwritten.

    Raises:
        UserError: labels.csv exists without the columns path and label.
    """
    path = folder / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(4)}.png"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LABELS).open("a+", encoding="utf-8", newline="") as table:
        fcntl.flock(table, fcntl.LOCK_EX)  # released when the file is closed
        table.seek(0)
        text = table.read().removeprefix("\ufeff")
        header = text.partition("\n")[0].strip() or "path,label"
        if not {"path", "label"} <= set(header.split(",")):
            raise UserError(f"expected the columns path and label in {table.name}, found {header!r}; move it away")
        write_png(path, picture)
        row = [{"path": path.name, "label": label}.get(column, "") for column in header.split(",")]
        if not text.endswith("\n"):
            table.write("\n" if text else f"{header}\n")
        table.write(",".join(row) + "\n")
    return path


async def _read_body(request: Request) -> bytes:
    """Return the body of a request; stop reading as soon as it exceeds the limit of size or time."""
    content = bytearray()
    with anyio.move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            content += chunk
            if len(content) > UPLOAD_LIMIT:
                raise HTTPException(413, f"expected a picture of at most {UPLOAD_LIMIT // 10**6} MB")
        return bytes(content)
    raise HTTPException(408, f"expected the whole picture within {BODY_SECONDS} s, received a part of it")


def _to_picture(content: bytes, width: str | None = None) -> np.ndarray:
    """Return a decoded image file, uint8 [h, w, 3], or with a width the rows of gray levels, uint8 [h, w]."""
    if width is None:
        return decode(io.BytesIO(content)).pixels
    columns = int(width) if re.fullmatch("[1-9][0-9]{0,3}", width) else 0
    if not columns or not content or len(content) % columns:
        raise UserError(f"expected rows of {width[:30]!r} bytes, received {len(content)} bytes")
    return np.frombuffer(content, np.uint8).reshape(-1, columns)


def _describe(picture: np.ndarray, read: Read, *, preview: bool) -> dict[str, Any]:
    """Read a picture; return its digits for the page."""
    (reading,) = read([picture])
    digits = [
        {
            "digit": digit.digit,
            "confident": digit.probability >= CONFIDENT,
            "probabilities": digit.probabilities.round(4).tolist(),
            "box": digit.box,
            "pixels": base64.b64encode(digit.image.tobytes()).decode(),
        }
        for digit in reading.digits
    ]
    result = {"text": reading.text, "digits": digits, "width": picture.shape[1], "height": picture.shape[0]}
    if preview:
        image = Image.fromarray(picture)
        image.thumbnail((1200, 1200))  # pixels
        image.save(file := io.BytesIO(), "jpeg")
        result["preview"] = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return result
