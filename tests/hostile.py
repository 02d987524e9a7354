"""Malicious, broken and wrong image files."""

import struct
import zlib

import cv2

from digit_recognizer.handwriting.sample_digits import draw_digits

SIDE = 20_000  # pixels


def _chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bomb():
    """Return a valid PNG file of 50 kB with 20,000 x 20,000 pixels."""
    lines = zlib.compress(bytes((1 + SIDE // 8) * SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


_PICTURE = cv2.imencode(".png", draw_digits()[2])[1].tobytes()
HOSTILE = {
    "script.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "owned"</script></svg>',
    "bomb.png": png_bomb(),
    "text.png": b"This is a text.\n" * 100,
    "cut.png": _PICTURE[: len(_PICTURE) // 2],
}
