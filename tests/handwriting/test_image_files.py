"""Image files, decoded or refused, listed and labelled."""

import io

import hostile
import numpy as np
import pytest
from PIL import Image

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import image_files

BROKEN = r"expected a picture .*, received a broken file or another format"


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
def test_every_format_is_decoded(gray, kind):
    picture = image_files.decode(encode(Image.fromarray(gray).convert("RGB"), kind))
    assert (picture.shape, picture.dtype) == ((30, 40, 3), np.uint8)
    assert abs(int(picture[4, 4, 1]) - 50) < 8
    assert abs(int(picture[20, 30, 1]) - 200) < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
def test_every_mode_is_decoded(gray, mode):
    image = Image.fromarray(gray)
    image = Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    picture = image_files.decode(encode(image, "TIFF" if mode in ("CMYK", "F") else "PNG"))
    assert picture.shape == (30, 40, 3)
    assert picture[2:8, 2:18].mean() < picture[15:, 25:].mean() - 100
    if mode in ("L", "P", "RGB", "I;16"):
        assert (picture[..., 0] == gray).all()


def test_exif_orientation_is_applied(gray):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees to view
    picture = image_files.decode(encode(gray, "JPEG", quality=95, exif=exif))
    assert picture.shape == (40, 30, 3)
    assert abs(int(picture[4, -4, 0]) - 50) < 8  # the left corner is at the right now


@pytest.mark.parametrize(("stroke", "paper"), [(0, 255), (255, 0)])
def test_transparent_paper_contrasts_with_the_strokes(stroke, paper):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 8:12] = (stroke, stroke, stroke, 255)
    picture = image_files.decode(encode(pixels))
    assert (picture[0, 0, 0], picture[10, 10, 0]) == (paper, stroke)


def test_the_transparent_part_of_a_cut_out_takes_its_median_colour():
    random = np.random.default_rng(0)
    pixels = np.dstack([random.integers(200, 256, (20, 20, 3)), np.full((20, 20), 255)]).astype(np.uint8)
    pixels[8:12, 8:12, :3] = 20
    pixels[:3, :3, 3] = 0
    picture = image_files.decode(encode(pixels))
    assert (picture[0, 0] == np.median(pixels[pixels[..., 3] > 127, :3], axis=0).astype(int)).all()
    assert (picture[5, 5] == pixels[5, 5, :3]).all()


def test_a_fully_transparent_picture_is_white():
    assert (image_files.decode(encode(np.zeros((5, 5, 4), np.uint8))) == 255).all()


CONTENTS = {"empty": b"", "short": b"7"} | {name: hostile.HOSTILE[name] for name in ("text.png", "script.svg")}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_other_files_are_refused(content):
    with pytest.raises(UserError, match=BROKEN):
        image_files.decode(content)


def test_a_truncated_picture_is_refused():
    with pytest.raises(UserError, match=BROKEN):
        image_files.decode(encode(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8))[:500])


def test_a_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(UserError, match="at most 50 megapixels, received a larger one"):
        image_files.decode(hostile.png_bomb())


def test_a_picture_that_exceeds_the_memory_is_refused_as_such(gray, monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(image_files, "_to_rgb", fail)
    with pytest.raises(UserError, match="that fits into memory, received one that does not; reduce its size"):
        image_files.decode(encode(gray))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_damaged_pictures_are_refused_or_decoded(gray, kind):
    random = np.random.default_rng(0)
    content = np.frombuffer(encode(Image.fromarray(gray).convert("RGB"), kind), np.uint8)
    for _ in range(100):
        damaged = content.copy()
        damaged[random.integers(0, len(damaged), 5)] = random.integers(0, 256, 5)
        try:
            assert image_files.decode(damaged.tobytes()).ndim == 3
        except UserError:  # any other exception fails the test
            continue


def test_missing_files_and_folders_are_refused_by_path(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: expected a file, found none"):
        image_files.read_picture(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"expected a file, found something else"):
        image_files.read_picture(tmp_path)


def test_too_large_files_are_refused_unread(tmp_path, monkeypatch):
    (tmp_path / "large.png").write_bytes(b"0" * 3_000_000)
    monkeypatch.setattr(image_files, "FILE_LIMIT", 2_000_000)
    with pytest.raises(UserError, match=r"large.png: expected at most 2 MB, found 3 MB"):
        image_files.read_picture(tmp_path / "large.png")


def test_folders_are_searched_and_files_are_taken_as_named(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    found = image_files.list_pictures([tmp_path, tmp_path / "notes.txt", tmp_path / "b.png"])
    names = [entry.path.relative_to(tmp_path).as_posix() for entry in found]
    assert names == ["a.JPG", "b.png", "sub/c.webp", "notes.txt"]


def test_files_get_the_labels_of_tables(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,7,scan\nmissing.png,1,scan\n")
    expected = {"a.png": ("7", "scan"), "b.png": (None, None), "missing.png": ("1", "scan")}
    found = {entry.path.name: (entry.label, entry.kind) for entry in image_files.list_pictures([tmp_path])}
    assert found == expected
    assert len(image_files.list_pictures([], tmp_path / "labels.csv")) == 2
    assert image_files.list_pictures([tmp_path / "a.png"], tmp_path / "labels.csv")[0].label == "7"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\na.png\n", "expected the columns path and label, found no label"),
        ("path,label\nb.png,7\n", r"b.png: expected a file, found none"),
        ("path,label\n../a.png,7\n", r"line 2: expected a file in .*, found '../a.png'"),
        ("path,label\nlabels.csv,7\n", r"labels.csv: expected a picture .*"),
        (None, r"labels.csv: expected a table with path and label, found none"),
    ],
)
def test_faults_of_a_table_are_located(tmp_path, table, message):
    folder = tmp_path / "handwriting"
    folder.mkdir()
    (tmp_path / "a.png").touch()
    if table is not None:
        (folder / "labels.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        [image_files.read_picture(entry.path) for entry in image_files.read_table(folder / "labels.csv")]
