"""The demo data: the competition's format, and the marker."""

from digit_recognizer.data import csv_files, demo


def test_line_ends_are_those_of_the_competition_files(demo_dir):
    for name in ("train.csv", "test.csv"):
        content = (demo_dir / name).read_bytes()
        assert content.endswith(b"\r\n")
        assert content.count(b"\n") == content.count(b"\r\n")


def test_digits_are_enlarged_into_the_middle(demo_dir):
    images = csv_files.load_train(demo_dir).images
    assert images[:, :4].max() == images[:, -4:].max() == images[:, :, :4].max() == images[:, :, -4:].max() == 0
    assert images.max() == 255


def test_the_folder_is_marked_and_written_again_with_the_same_bytes(demo_dir, tmp_path):
    assert "not the competition's data" in (demo_dir / demo.MARKER).read_text()
    demo.write_demo_data(tmp_path)
    assert (tmp_path / "train.csv").read_bytes() == (demo_dir / "train.csv").read_bytes()
