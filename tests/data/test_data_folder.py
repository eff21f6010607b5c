import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import in_memory, open_folder, training_batches


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def grey(value, height=4, width=4):
    return np.full((height, width), value)


def colour(value, height=4, width=4):
    return np.full((height, width, 3), [value, 0, 0])


def test_subfolders_are_classes_in_sorted_order(tmp_path):
    write(tmp_path / "owl" / "b.png", grey(3))
    write(tmp_path / "owl" / "deep" / "a.png", grey(4))
    write(tmp_path / "cat" / "z.png", grey(1))
    write(tmp_path / "cat" / "a.PNG", grey(0))
    write(tmp_path / "cat" / ".hidden.png", grey(9))
    write(tmp_path / ".cache" / "x.png", grey(9))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    examples = open_folder(tmp_path)
    assert examples.class_names == ("cat", "owl")
    assert (examples.num_classes, examples.shape, len(examples)) == (2, (4, 4, 1), 4)
    assert [(int(r["image"][0, 0, 0]), r["label"]) for r in examples.source] == [(0, 0), (1, 0), (3, 1), (4, 1)]


def test_a_flat_folder_is_unlabelled(tmp_path):
    for i in (2, 0, 1):
        write(tmp_path / f"{i}.png", colour(i))
    (tmp_path / "empty").mkdir()
    examples = open_folder(tmp_path)
    assert (examples.num_classes, examples.class_names, examples.shape) == (0, (), (4, 4, 3))
    assert [int(examples.source[i]["image"][0, 0, 0]) for i in range(3)] == [0, 1, 2]
    assert "label" not in examples.source[0]


def test_one_colour_picture_makes_all_rgb(tmp_path):
    write(tmp_path / "a.png", grey(7))
    write(tmp_path / "b.png", colour(7))
    examples = open_folder(tmp_path)
    np.testing.assert_array_equal(examples.source[0]["image"], np.full((4, 4, 3), 7))
    np.testing.assert_array_equal(examples.source[1]["image"], colour(7))


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", grey(50, 8, 12))
    write(tmp_path / "b.png", grey(60, 30, 10))
    with pytest.raises(ValueError, match=r"size = None.*a\.png has 12x8 pixels and .*b\.png has 10x30"):
        open_folder(tmp_path)
    examples = in_memory(open_folder(tmp_path, size=6))
    assert examples.shape == (6, 6, 1)
    np.testing.assert_array_equal(examples.source.x[:, :, :, 0], np.stack([grey(50, 6, 6), grey(60, 6, 6)]))


def test_oblong_pictures_of_one_size_are_unchanged(tmp_path):
    rows = np.arange(3)[:, None] * np.ones((1, 5))
    write(tmp_path / "a.png", rows)
    examples = open_folder(tmp_path)
    assert examples.shape == (3, 5, 1)
    np.testing.assert_array_equal(examples.source[0]["image"][..., 0], rows)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    write(tmp_path / "a.webp", pixels, exif=exif, lossless=True)
    examples = open_folder(tmp_path)
    assert examples.shape == (3, 2, 3)
    np.testing.assert_array_equal(examples.source[0]["image"], np.rot90(pixels, -1))


def test_a_file_without_a_picture_is_named_at_once(tmp_path):
    write(tmp_path / "good.png", grey(1))
    (tmp_path / "bad.png").write_bytes(b"not a picture at all")
    with pytest.raises(ValueError, match=r"bad\.png cannot be read as a picture"):
        open_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_named_when_it_is_decoded(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32))
    for name in ("a", "b"):
        write(tmp_path / f"{name}.{suffix}", noise)
    bad = tmp_path / f"b.{suffix}"
    bad.write_bytes(bad.read_bytes()[:-300])
    examples = open_folder(tmp_path)
    for reading in (in_memory, lambda examples: next(training_batches(examples, 2, seed=0))):
        with pytest.raises(ValueError, match=rf"b\.{suffix} cannot be read as a picture"):
            reading(examples)


def test_folders_without_a_data_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'.*absent' is not a folder"):
        open_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"holds no pictures; allowed are .*\.png"):
        open_folder(tmp_path)
    write(tmp_path / "full" / "a.png", grey(0))
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="subfolder 'void' holds no pictures"):
        open_folder(tmp_path)
    write(tmp_path / "a.png", grey(0))
    with pytest.raises(ValueError, match=r"holds pictures \(a\.png\) and subfolders of pictures"):
        open_folder(tmp_path)
    with pytest.raises(ValueError, match="size = -3"):
        open_folder(tmp_path, size=-3)
