"""Picture files, read or refused."""

import io

import hostile
import numpy as np
import pytest
from PIL import Image

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import image_files


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
    picture = image_files.decode(encode(gray if kind != "WEBP" else Image.fromarray(gray).convert("RGB"), kind))
    assert picture.shape == (30, 40, 3)
    assert picture.dtype == np.uint8
    assert abs(int(picture[4, 4, 1]) - 50) < 8
    assert abs(int(picture[20, 30, 1]) - 200) < 8


def test_palette_and_16_bits_are_read(gray):
    assert (image_files.decode(encode(Image.fromarray(gray).convert("P")))[..., 0] == gray).all()
    assert (image_files.decode(encode(gray.astype(np.uint16) * 257))[..., 0] == gray).all()


def test_what_a_camera_turned_is_turned_back(gray):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to see it upright
    picture = image_files.decode(encode(gray, "JPEG", quality=95, exif=exif))
    assert picture.shape == (40, 30, 3)
    assert abs(int(picture[4, -4, 0]) - 50) < 8  # the corner at the left is at the right now


@pytest.mark.parametrize(("stroke", "paper"), [(0, 255), (255, 0)])
def test_transparent_paper_contrasts_with_the_strokes(stroke, paper):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 8:12] = (stroke, stroke, stroke, 255)
    picture = image_files.decode(encode(pixels))
    assert (picture[0, 0, 0], picture[10, 10, 0]) == (paper, stroke)


NO_PICTURES = {"empty": b"", "short": b"7"} | {name: hostile.HOSTILE[name] for name in ("text.png", "script.svg")}


@pytest.mark.parametrize("content", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(UserError, match=r"expected a picture .*, received something else or a broken one"):
        image_files.decode(content)


def test_a_truncated_picture_is_refused(gray):
    with pytest.raises(UserError, match="a broken one"):
        image_files.decode(encode(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8))[:500])


def test_a_bomb_is_refused_by_its_header():
    with pytest.raises(UserError, match="at most 50 megapixels, received a larger one"):
        image_files.decode(hostile.png_bomb())


def test_a_labelled_folder_is_read(gray, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(gray))
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,7,scan\n")
    ((name, label, picture),) = image_files.read_labelled(tmp_path)
    assert (name, label, picture.shape) == ("a.png", "7", (30, 40, 3))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\na.png\n", "expected the columns path and label, found no label"),
        ("path,label\nb.png,7\n", r"b.png: expected a file, found none"),
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
        list(image_files.read_labelled(folder))


def test_folders_are_searched_and_files_are_taken_as_named(gray, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt"):
        (tmp_path / name).write_bytes(encode(gray))
    found = image_files.list_pictures([tmp_path, tmp_path / "notes.txt", tmp_path / "b.png"])
    assert [entry.path.relative_to(tmp_path).as_posix() for entry in found] == [
        "a.JPG",
        "b.png",
        "sub/c.webp",
        "notes.txt",
    ]


def test_a_table_gives_labels_to_what_it_names(gray, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(gray))
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,7,scan\nmissing.png,1,scan\n")
    expected = {"a.png": ("7", "scan"), "b.png": (None, None), "missing.png": ("1", "scan")}
    found = {entry.path.name: (entry.label, entry.kind) for entry in image_files.list_pictures([tmp_path])}
    assert found == expected
    assert len(image_files.list_pictures([], tmp_path / "labels.csv")) == 2
    assert image_files.list_pictures([tmp_path / "a.png"], tmp_path / "labels.csv")[0].label == "7"


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.png: expected a file, found none"):
        image_files.read_picture(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"expected a file, found another thing"):
        image_files.read_picture(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
def test_every_mode_shows_the_dark_corner(gray, mode):
    image = Image.fromarray(gray)
    image = Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    picture = image_files.decode(encode(image, "TIFF" if mode in ("CMYK", "F") else "PNG"))
    assert picture.shape == (30, 40, 3)
    assert picture[2:8, 2:18].mean() < picture[15:, 25:].mean() - 100


def test_the_paper_of_a_cut_out_goes_on_where_it_is_transparent():
    pixels = np.full((20, 20, 4), 230, np.uint8)
    pixels[8:12, 8:12, :3] = 20
    pixels[..., 3] = 255
    pixels[:3, :3, 3] = 0
    assert (image_files.decode(encode(pixels))[0, 0] == 230).all()


def test_broken_pictures_of_all_formats_are_refused_or_read(gray):
    """Nothing else comes out of bytes that changed at random."""
    rng = np.random.default_rng(0)
    for kind in ("PNG", "BMP", "TIFF", "WEBP", "JPEG"):
        content = np.frombuffer(encode(Image.fromarray(gray).convert("RGB"), kind), np.uint8)
        for _ in range(100):
            broken = content.copy()
            broken[rng.integers(0, len(broken), 5)] = rng.integers(0, 256, 5)
            try:
                assert image_files.decode(broken.tobytes()).ndim == 3
            except UserError:
                continue
