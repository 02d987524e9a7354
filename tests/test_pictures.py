"""Picture files, read or refused."""

import io

import hostile
import numpy as np
import pytest
from PIL import Image

from digit_recognizer import pictures
from digit_recognizer.errors import UserError


def encode(pixels, kind="PNG", **options):
    content = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.fixture
def gray():
    """A dark corner on light paper."""
    pixels = np.full((30, 40), 200, np.uint8)
    pixels[:10, :20] = 50
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_every_format_is_read(gray, kind):
    picture = pictures.decode(encode(gray if kind != "WEBP" else Image.fromarray(gray).convert("RGB"), kind))
    assert picture.shape == (30, 40, 3)
    assert picture.dtype == np.uint8
    assert abs(int(picture[4, 4, 1]) - 50) < 8
    assert abs(int(picture[20, 30, 1]) - 200) < 8


def test_palette_and_16_bits_are_read(gray):
    assert (pictures.decode(encode(Image.fromarray(gray).convert("P")))[..., 0] == gray).all()
    assert (pictures.decode(encode(gray.astype(np.uint16) * 257))[..., 0] == gray).all()


def test_what_a_camera_turned_is_turned_back(gray):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to see it upright
    picture = pictures.decode(encode(gray, "JPEG", quality=95, exif=exif))
    assert picture.shape == (40, 30, 3)
    assert abs(int(picture[4, -4, 0]) - 50) < 8  # the corner at the left is at the right now


@pytest.mark.parametrize(("stroke", "paper"), [(0, 255), (255, 0)])
def test_transparent_paper_contrasts_with_the_strokes(stroke, paper):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 8:12] = (stroke, stroke, stroke, 255)
    picture = pictures.decode(encode(pixels))
    assert (picture[0, 0, 0], picture[10, 10, 0]) == (paper, stroke)


NO_PICTURES = {"empty": b"", "short": b"7"} | {name: hostile.HOSTILE[name] for name in ("text.png", "script.svg")}


@pytest.mark.parametrize("content", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(UserError, match=r"expected a picture .*, received something else or a broken one"):
        pictures.decode(content)


def test_a_truncated_picture_is_refused(gray):
    with pytest.raises(UserError, match="a broken one"):
        pictures.decode(encode(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8))[:500])


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(UserError, match="at most 50 megapixels, received a larger one"):
        pictures.decode(hostile.png_bomb())


def test_a_labelled_folder_is_read(gray, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(gray))
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,7,scan\n")
    ((name, label, picture),) = pictures.read_labelled(tmp_path)
    assert (name, label, picture.shape) == ("a.png", "7", (30, 40, 3))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\na.png\n", "expected the columns path and label, found no label"),
        ("path,label\nb.png,7\n", r"line 2: expected a file in .*, found 'b.png'"),
        ("path,label\n../a.png,7\n", r"line 2: expected a file in .*, found '../a.png'"),
        ("path,label\nlabels.csv,7\n", r"labels.csv: expected a picture .*"),
    ],
)
def test_a_faulty_table_is_named_with_its_line(tmp_path, table, message):
    folder = tmp_path / "handwriting"
    folder.mkdir()
    (tmp_path / "a.png").touch()
    (folder / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        list(pictures.read_labelled(folder))
