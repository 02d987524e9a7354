"""Image files, decoded or refused, listed and labelled."""

import errno
import gzip
import io
import os
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import image_files

BROKEN = r"expected an image \(PNG, .*\), found a broken file or another format; convert HEIC, unpack zip"


def encode(pixels, kind="PNG", **options):
    content = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(content, kind, **options)
    return content.getvalue()


def decode(content):
    return image_files.decode(io.BytesIO(content)).pixels


@pytest.fixture
def gray():
    """A dark corner on light paper."""
    pixels = np.full((30, 40), 200, np.uint8)
    pixels[:10, :20] = 50
    return pixels


@pytest.mark.parametrize("kind", image_files.FORMATS)
def test_every_format_is_decoded(gray, kind):
    picture = decode(encode(Image.fromarray(gray).convert("RGB"), kind))
    assert (picture.shape, picture.dtype) == ((30, 40, 3), np.uint8)
    assert abs(int(picture[4, 4, 1]) - 50) < 8
    assert abs(int(picture[20, 30, 1]) - 200) < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_is_decoded(gray, mode):
    picture = decode(encode(Image.fromarray(gray).convert(mode), "TIFF" if mode == "CMYK" else "PNG"))
    expected = np.where(gray > 99, 255, 0) if mode == "1" else gray
    assert picture.shape == (30, 40, 3)
    assert (picture == expected[..., np.newaxis])[1:9, 1:19].mean() > (0.7 if mode == "1" else 0.99)  # 1 is dithered
    assert (picture == expected[..., np.newaxis])[11:, 21:].mean() > (0.7 if mode == "1" else 0.99)


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "expected"),
    [
        ("PNG", np.uint16, (50, 200, 255), (50, 200, 255)),  # 8 bits in 16
        ("TIFF", np.uint16, (50, 200, 255), (50, 200, 255)),
        ("TIFF", np.int32, (50, 200, 255), (50, 200, 255)),
        ("TIFF", np.float32, (50, 200, 255), (50, 200, 255)),
        ("PNG", np.uint16, (0, 2048, 4095), (0, 128, 255)),  # 12 bits in 16
        ("PNG", np.uint16, (0, 51400, 65535), (0, 200, 255)),
        ("TIFF", np.int32, (0, 51400, 65535), (0, 200, 255)),
        ("TIFF", np.int32, (0, 2**30, 2**31 - 2**8), (0, 128, 255)),
        ("TIFF", np.float32, (0, 0.4, 1), (0, 102, 255)),
        ("TIFF", np.float32, (-1, 0, 1), (0, 0, 255)),
        ("TIFF", np.float32, (0, np.nan, np.inf), (0, 0, 0)),
    ],
)
def test_more_than_8_bits_are_scaled_by_what_the_file_holds(kind, dtype, values, expected):
    picture = decode(encode(np.array([values], dtype), kind))
    assert picture.tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize(("kind", "pages"), [("GIF", 1), ("TIFF", 2)])
def test_the_first_frame_is_decoded_and_pages_are_counted(gray, kind, pages):
    content = encode(Image.fromarray(gray), kind, save_all=True, append_images=[Image.fromarray(255 - gray)])
    picture = image_files.decode(io.BytesIO(content))
    assert (picture.pixels[..., 0] == gray).all()
    assert picture.pages == pages


def test_exif_orientation_is_applied(gray):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees to view
    picture = decode(encode(gray, "JPEG", quality=95, exif=exif))
    assert picture.shape == (40, 30, 3)
    assert abs(int(picture[4, -4, 0]) - 50) < 8  # the left corner is at the right now


@pytest.mark.parametrize(("stroke", "paper"), [(0, 255), (255, 0)])
def test_transparent_paper_contrasts_with_the_strokes(stroke, paper):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 8:12] = (stroke, stroke, stroke, 255)
    picture = decode(encode(pixels))
    assert (picture[0, 0, 0], picture[10, 10, 0]) == (paper, stroke)


def test_the_transparent_part_of_a_cut_out_takes_its_median_colour():
    random = np.random.default_rng(0)
    pixels = np.dstack([random.integers(200, 256, (20, 20, 3)), np.full((20, 20), 255)]).astype(np.uint8)
    pixels[8:12, 8:12, :3] = 20
    pixels[:3, :3, 3] = 0
    picture = decode(encode(pixels))
    assert (picture[0, 0] == np.median(pixels[pixels[..., 3] > 127, :3], axis=0).astype(int)).all()
    assert (picture[5, 5] == pixels[5, 5, :3]).all()


def test_a_fully_transparent_picture_is_white():
    assert (decode(encode(np.zeros((5, 5, 4), np.uint8))) == 255).all()


CONTENTS = {"empty": b"", "short": b"7", "no pixels": b"P5 5 0 255 "} | {
    name: hostile.HOSTILE[name] for name in ("text.png", "script.svg", "cut.png")
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_other_files_are_refused(content):
    with pytest.raises(UserError, match=BROKEN):
        decode(content)


def test_a_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(UserError, match="the image has more than 50 megapixels; scale it down"):
        decode(hostile.png_bomb())


def test_a_picture_that_exceeds_the_memory_is_refused_as_such(gray, monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(image_files, "_to_rgb", fail)
    with pytest.raises(UserError, match="the image does not fit into memory; scale it down"):
        decode(encode(gray))


def test_folders_are_searched_and_files_are_taken_as_named(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt"):
        (tmp_path / name).touch()
    skipped = []
    found = image_files.list_pictures([tmp_path, tmp_path / "notes.txt", tmp_path / "b.png"], on_skip=skipped.append)
    names = [entry.path.relative_to(tmp_path).as_posix() for entry in found]
    assert names == ["a.JPG", "b.png", "sub/c.webp", "notes.txt"]
    assert skipped == [tmp_path / "notes.txt"]


@pytest.mark.parametrize("kind", image_files.FORMATS)
def test_pictures_of_a_folder_are_known_by_their_content(gray, tmp_path, kind):
    (tmp_path / "picture.dat").write_bytes(encode(gray, kind))
    assert [entry.path.name for entry in image_files.list_pictures([tmp_path])] == ["picture.dat"]


@pytest.mark.parametrize("name", ["broken.jpe", "photo.HEIC"])
def test_images_of_a_folder_that_cannot_be_decoded_are_listed_to_be_reported(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    (entry,) = image_files.list_pictures([tmp_path])
    with pytest.raises(UserError, match=f"{name}: {BROKEN}"):
        image_files.read_picture(entry.path)


def test_files_of_a_folder_that_are_no_pictures_are_skipped_and_hidden_ones_are_silent(tmp_path):
    (tmp_path / ".git").mkdir()
    for name in (".DS_Store", ".a.png", ".git/b.png", "labels.csv", "notes.txt", "BM notes", "P1 notes", "Thumbs.db"):
        (tmp_path / name).write_text("path,label\n")
    skipped = []
    assert image_files.list_pictures([tmp_path], on_skip=skipped.append) == []
    assert [path.name for path in skipped] == ["BM notes", "P1 notes", "Thumbs.db", "notes.txt"]


def test_what_cannot_be_opened_is_listed_to_be_reported(tmp_path, monkeypatch):
    (tmp_path / "broken link").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "locked").mkdir()
    os.mkfifo(tmp_path / "pipe")
    scan = os.scandir

    def refuse(folder):
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = image_files.list_pictures([tmp_path, tmp_path / ("a" * 300)])
    assert [entry.path.name for entry in found] == ["broken link", "circle", "locked", "pipe", "a" * 300]
    with pytest.raises(UserError, match=r"locked: not a file"):
        image_files.read_picture(tmp_path / "locked")


def test_files_get_the_labels_of_tables(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text("path,label\na.png,7\nmissing.png,1\n")
    listed = image_files.list_pictures([tmp_path])
    assert {file.path.name: file.label for file in listed} == {"a.png": "7", "b.png": None, "missing.png": "1"}
    assert len(image_files.list_pictures([], tmp_path / "labels.csv")) == 2
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "labels.csv").read_bytes()))
    assert image_files.read_table(tmp_path / "packed") == image_files.read_table(tmp_path / "labels.csv")
    assert image_files.list_pictures([tmp_path / "a.png"], tmp_path / "labels.csv")[0].label == "7"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\na.png\n", "as .*/labels.csv, found something else .no label.; name such"),
        ("path,label\nb.png,7\n", r"b.png: no such file"),
        ("path,label\na\0.png,7\n", r"line 2: expected a file in .*, found 'a.x00.png'"),
        (f"path,label\n{'a' * 300}.png,7\n", r"a.png: could not read the file \(File name too long\)"),
        ("path,label\n../a.png,7\n", r"line 2: expected a file in .*, found '../a.png'"),
        ("path,label\nlabels.csv,7\n", r"labels.csv: expected an image"),
        (None, r"expected a table with the columns path and label as .*/labels.csv, found none"),
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
