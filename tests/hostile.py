"""Malicious, broken and wrong image files."""

import io

import cv2
from PIL import Image

from digit_recognizer.handwriting.sample_digits import draw_digits

SIDE = 20_000  # pixels


def png_bomb():
    """Return a valid PNG file of 50 kB with 20,000 x 20,000 pixels."""
    content = io.BytesIO()
    Image.new("1", (SIDE, SIDE)).save(content, "PNG")
    return content.getvalue()


_PICTURE = cv2.imencode(".png", draw_digits()[2])[1].tobytes()
HOSTILE = {
    "script.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "owned"</script></svg>',
    "bomb.png": png_bomb(),
    "text.png": b"This is a text.\n" * 100,
    "cut.png": _PICTURE[: len(_PICTURE) // 2],
}
