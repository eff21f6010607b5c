"""Pictures: every pixel is where the docstring says."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdiff.media.lettering import line_height
from jaxdiff.media.pictures import GAP, columns_for, grid, legend, png_bytes, scatter, write_png
from jaxdiff.media.pixels import NOT_FINITE, to_rgb


def test_every_pixel_of_a_grid_is_in_its_place():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (5, 3, 4, 3))
    picture = grid(values / 127.5 - 1, columns=2, scale=3)
    expected = np.full((GAP + 3 * (9 + GAP), GAP + 2 * (12 + GAP), 3), 255)
    for index, value in enumerate(values):
        for y in range(9):
            for x in range(12):
                row, column = divmod(index, 2)
                expected[GAP + row * (9 + GAP) + y, GAP + column * (12 + GAP) + x] = value[y // 3, x // 3]
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_bytes_and_floats_give_the_same_picture():
    values = np.random.default_rng(1).integers(0, 256, (3, 40, 40, 4), dtype=np.uint8)
    np.testing.assert_array_equal(grid(values, 2), grid(values / 127.5 - 1, 2))
    np.testing.assert_array_equal(grid(values[..., :3], 1)[GAP : GAP + 40, GAP : GAP + 40], values[0, ..., :3])
    assert to_rgb([[True], [False]]).tolist() == [[255] * 3, [0] * 3]


def test_grey_alpha_and_clipping():
    grey = grid(np.array([-9.0, -1.0, 1.0, 9e300]).reshape(1, 1, 4, 1), columns=1, scale=1)
    assert grey[GAP, GAP : GAP + 4].tolist() == [[0] * 3, [0] * 3, [255] * 3, [255] * 3]
    red = np.array([1.0, -1.0, -1.0])
    clear, half, full = (np.append(red, alpha) for alpha in (-1.0, 0.0, 1.0))
    colour = grid(np.stack([clear, half, full]).reshape(1, 1, 3, 4), columns=1, scale=1)
    assert colour[GAP, GAP : GAP + 3].tolist() == [[255, 255, 255], [255, 128, 128], [255, 0, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_that_are_not_finite_are_magenta(bad, channels):
    values = np.zeros((1, 1, 2, channels))
    values[0, 0, 1, channels // 2] = bad
    row = grid(values, 1, scale=1)[GAP, GAP : GAP + 2]
    assert row[1].tolist() == list(NOT_FINITE) != row[0].tolist()


def test_tiny_images_are_enlarged_and_others_are_not():
    assert grid(np.zeros((1, 8, 8, 1)), 1).shape == (32 + 2 * GAP, 32 + 2 * GAP, 3)
    assert grid(np.zeros((1, 64, 48, 1)), 1).shape == (64 + 2 * GAP, 48 + 2 * GAP, 3)
    assert grid(np.zeros((2, 64, 48, 1)), 10).shape == (64 + 2 * GAP, 2 * 48 + 3 * GAP, 3)


def test_captions_do_not_touch_the_images():
    images = np.full((4, 10, 10, 3), (1.0, -1.0, 1.0))
    picture = grid(images, 2, captions=["7", "cat", "", "x"], row_captions=["w=0", "w=2.5"], scale=2)
    is_image = (picture == (255, 0, 255)).all(-1)
    assert is_image.sum() == 4 * 400
    rows, columns = np.flatnonzero(is_image.any(1)), np.flatnonzero(is_image.any(0))
    assert len(rows) == len(columns) == 40
    assert rows[20] - rows[19] > GAP + 5
    dark = (picture < 100).all(-1)
    assert dark[:, : columns[0]].any()
    assert dark[: rows[0]].any()
    assert dark[rows[19] + 1 : rows[20]].any()


def test_long_captions_are_wrapped_and_never_leave_their_cell():
    images = np.full((3, 40, 40, 3), (1.0, -1.0, 1.0))
    captions = ["", "many words and more of them, one on another, up to the end of all that can be told", ""]
    picture = grid(images, 3, captions, scale=1)
    dark = (picture < 100).all(-1)
    assert dark.any(axis=0)[GAP + 40 + GAP : GAP + 80 + GAP].any()
    assert not dark[:, : GAP + 40 + GAP].any()
    assert not dark[:, GAP + 80 + GAP :].any()
    assert ((picture == (255, 0, 255)).all(-1)).sum() == 3 * 1600
    assert picture.shape[0] == GAP + 3 * line_height() + GAP + 40 + GAP


def test_a_row_without_captions_has_no_space_for_them():
    images = np.zeros((2, 40, 40, 1))
    assert grid(images, 1, ["", ""]).shape == grid(images, 1).shape
    assert grid(images, 1, ["a", ""]).shape[0] < grid(images, 1, ["a", "a"]).shape[0]


def test_images_with_wide_captions_are_enlarged():
    images = np.zeros((1, 16, 16, 1))
    assert grid(images, 1, ["7"]).shape[1] == 32 + 2 * GAP
    assert grid(images, 1, ["a sentence of words"]).shape[1] == 96 + 2 * GAP


@pytest.mark.parametrize(
    "text",
    ["\x00\n\t", "\ud800 alone", "汉字 \U0001f600\u200d\U0001f680", "\u0300" * 500, "\u202e right to left", "Ünï", "x" * 100_000, "\ufdfa" * 99],
)  # fmt: skip
def test_any_text_is_a_caption(text):
    picture = grid(np.zeros((1, 4, 1, 3)), 1, [text], [text])
    assert (picture == to_rgb([0.0])).all(-1).sum() >= 4 * 8 * 8


def test_a_legend_names_colours_below_the_picture():
    picture = np.full((20, 60, 3), 7, np.uint8)
    found = legend(
        picture,
        ["red", "blue", "a name that is far too long"],
        [(255, 0, 0), (0, 0, 255), (9, 99, 9)],
        [("lost", NOT_FINITE)],
    )
    np.testing.assert_array_equal(found[:20], picture)
    below = found[20:].astype(int)
    tops = [
        np.flatnonzero((below == colour).all(-1).any(axis=1))[0] for colour in ((255, 0, 0), (0, 0, 255), (9, 99, 9))
    ]
    magenta = (below[..., 0] - below[..., 1] > 99) & (below[..., 2] - below[..., 1] > 99)
    tops.append(np.flatnonzero(magenta.any(axis=1))[0])
    assert tops == sorted(tops)
    assert len(set(tops)) == 4  # 60 pixels hold one name a line
    assert legend(picture) is picture


@pytest.mark.parametrize(
    ("count", "height", "width", "columns"),
    [(100, 8, 8, 10), (16, 128, 320, 3), (1, 9, 9, 1), (4, 900, 1, 4), (4, 1, 900, 1)],
)
def test_sheets_are_about_square(count, height, width, columns):
    assert columns_for(count, height, width) == columns


def test_points_are_drawn_at_their_coordinates():
    picture = scatter([[1.0, 1.0], [-1.0, 0.0], [50.0, 0.0], [np.nan, 0.0]], extent=2.0, size=101, labels=[0, 1, 0, 0])
    marked = (picture != 255).any(-1)
    ys, xs = np.nonzero(marked)
    assert {(int(y), int(x)) for y, x in zip(ys, xs, strict=True)} == {
        (y, x) for cy, cx in ((25, 75), (50, 25)) for y in range(cy - 1, cy + 2) for x in range(cx - 1, cx + 2)
    }
    assert picture[25, 75].tolist() != picture[50, 25].tolist()
    twice = scatter([[1.0, 1.0], [1.0, 1.0]], extent=2.0, size=101)
    assert twice[25, 75].sum() < picture[25, 75].sum()
    assert (scatter([[3.0, -1.0]], size=11)[7, 10] != 255).any()
    assert (scatter(np.zeros((0, 2)), size=11) == 255).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip(tmp_path, channels):
    image = np.random.default_rng(1).integers(0, 256, (6, 5, channels), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    found = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(found.reshape(image.shape), image)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(image)))).reshape(image.shape), image)


ONE = np.zeros((1, 4, 4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid(np.zeros((1, 4, 4, 2)), 1), r"images.shape = \(1, 4, 4, 2\); allowed are \[n, height"),
        (lambda: grid(np.zeros((0, 4, 4, 3)), 1), r"images.shape = \(0, 4, 4, 3\)"),
        (lambda: grid(ONE, 0), "columns = 0; allowed are integers of at least 1"),
        (lambda: grid(ONE, 1, scale=0), "scale = 0"),
        (lambda: grid(ONE, 1, captions=["a", "b"]), r"len\(captions\) = 2; allowed are 1, or None"),
        (lambda: grid(ONE, 1, row_captions=["a", "b"]), r"len\(row_captions\) = 2; allowed are 1, or None"),
        (lambda: scatter(np.zeros(3)), r"points.shape = \(3,\); allowed are \[n, 2\]"),
        (lambda: scatter(np.zeros((1, 2)), labels=[0, 1]), r"labels.shape = \(2,\); allowed are \(1,\)"),
        (lambda: scatter(np.zeros((1, 2)), extent=-1.0), "extent = -1.0; allowed are finite numbers above 0"),
        (lambda: scatter(np.zeros((1, 2)), size=1), "size = 1; allowed are integers of at least 2"),
        (lambda: write_png("a.png", np.zeros((4, 4), np.uint8)), r"image.shape = \(4, 4\); allowed are \[height"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_types_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"values.dtype = complex128; allowed are real numbers"):
        grid(ONE * 1j, 1)
    with pytest.raises(ValueError, match=r"values.shape = \(2,\); allowed are \[..., channels\]"):
        to_rgb(np.zeros(2))
    with pytest.raises(TypeError, match=r"image.dtype = float64; allowed are uint8"):
        write_png(tmp_path / "a.png", ONE[0])
