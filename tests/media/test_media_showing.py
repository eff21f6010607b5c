"""Showing: the kind and the shape choose the files; no array of numbers raises."""

import io
import itertools
import wave

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdiff import media
from jaxdiff.media import pictures, points, showing, videos, waveforms
from jaxdiff.media.pixels import NOT_FINITE

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 33, 34, 3), dtype=np.uint8)
SETS = RNG.normal(size=(3, 6, 3))


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def is_magenta(picture):
    return (picture == NOT_FINITE).all(-1)


def test_pictures():
    files = media.show(IMAGES, "picture", captions=["a", "b"], stem="x")
    assert list(files) == ["x.png"]
    np.testing.assert_array_equal(read(files["x.png"]), pictures.grid(IMAGES, 3, ["a", "b", "", "", ""]))
    labelled = media.show(IMAGES, "picture", labels=[0, 1, 1, 0, 9], names=["cat", "dog"])["samples.png"]
    np.testing.assert_array_equal(read(labelled), pictures.grid(IMAGES, 3, ["cat", "dog", "dog", "cat", "9"]))


def test_the_first_of_many_are_shown(monkeypatch):
    many = np.zeros((120, 8, 8, 1), np.uint8)
    many[100:] = 255
    found = read(media.show(many, "picture")["samples.png"])
    np.testing.assert_array_equal(found, pictures.grid(many[:100], 10))
    sounds = media.show(np.zeros((20, 9, 1)), "waveform")
    assert sorted(sounds) == ["samples.png", *(f"samples_{i:02d}.wav" for i in range(16))]
    assert len(media.show(np.zeros((20, 2, 3)), "points")) == 17
    # Large pictures share the pixels of a sheet; there is always one.
    monkeypatch.setattr(showing, "_SHEET", 2 * 33 * 34)
    for images, count in ((IMAGES, 2), (IMAGES.repeat(2, axis=1), 1), (IMAGES.repeat(4, axis=1), 1)):
        expected = pictures.grid(images[:count], pictures.columns_for(count, *images.shape[1:3]))
        np.testing.assert_array_equal(read(media.show(images, "picture")["samples.png"]), expected)


def test_videos(monkeypatch):
    clips = RNG.integers(0, 256, (2, 3, 33, 33, 3), dtype=np.uint8)
    files = media.show(clips, "video", rate=10)
    assert list(files) == ["samples.png", "samples_frames.png"]
    assert files["samples.png"] == videos.animation(clips, rate=10)
    np.testing.assert_array_equal(read(files["samples_frames.png"]), videos.contact_sheet(clips))
    masked = media.show(clips, "video", rate=10, mask=[[1, 1, 1], [1, 0, 0]])["samples.png"]
    clips[1, 1:] = 255
    assert masked == videos.animation(clips, rate=10)
    monkeypatch.setattr(showing, "_VIDEO", 2 * 33 * 33)
    assert Image.open(io.BytesIO(media.show(clips, "video")["samples.png"])).n_frames == 2


def test_waveforms():
    sounds = RNG.uniform(-1, 1, (2, 500, 1))
    mask = np.arange(500) < np.array([[500], [0]])
    files = media.show(sounds, "waveform", rate=8000, mask=mask, captions=["one", "two"])
    for index, length in enumerate((500, 0)):
        with wave.open(io.BytesIO(files[f"samples_{index:02d}.wav"])) as file:
            assert (file.getnframes(), file.getframerate()) == (length, 8000)
    sheet = waveforms.spectrogram_sheet([sounds[0], np.zeros((1, 1))], 8000, ["00 one", "01 two"])
    np.testing.assert_array_equal(read(files["samples.png"]), sheet)


def test_molecules_and_other_point_sets():
    features = np.eye(2)[RNG.integers(0, 2, (3, 6))]
    kinds, mask = features.argmax(-1), np.arange(6) < np.array([[6], [3], [2]])
    files = media.show(SETS, "points", names=["H", "O"], features=features, mask=mask, captions=["w"])
    assert list(files) == ["samples.png", "samples.xyz", *(f"samples_{i:02d}.ply" for i in range(3))]
    texts = ["00 w", "01", "02"]
    assert files["samples.xyz"] == points.xyz_bytes(SETS, kinds, ["H", "O"], mask, texts)
    assert files["samples_01.ply"] == points.ply_bytes(SETS[1], mask[1], kinds[1], ["H", "O"])
    np.testing.assert_array_equal(read(files["samples.png"]), points.render(SETS, mask, kinds, ["H", "O"], texts))
    # Names that are no elements, or not those of the features, give no file of molecules.
    for names in (["left", "right"], ["H", "O", "C"], []):
        assert "samples.xyz" not in media.show(SETS, "points", names=names, features=features)


def test_values_in_the_plane():
    xy = RNG.normal(size=(50, 2))
    np.testing.assert_array_equal(read(media.show(xy, "values")["samples.png"]), pictures.scatter(xy))
    labelled = read(media.show(xy, "values", labels=np.arange(50) % 2, names=["a", "b"])["samples.png"])
    np.testing.assert_array_equal(labelled[:384], pictures.scatter(xy, labels=np.arange(50) % 2))
    assert len(labelled) > 384
    xy[3, 1] = np.nan
    broken = read(media.show(xy, "values")["samples.png"])[384:].astype(int)
    assert (broken[..., 2] - broken[..., 1] > 99).any()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("picture", (2, 8, 8, 2)), ("picture", (2, 8, 8)), ("video", (1, 2, 3, 1)), ("values", (3, 5)), ("label", (4,)), ("mask", (2, 7)), ("unheard of", (2, 4, 4, 3)), ("picture", (0, 8, 8, 3)), ("points", (2, 0, 3))],
)  # fmt: skip
def test_all_else_is_an_array(kind, shape):
    values = RNG.normal(size=shape)
    files = media.show(values, kind, stem="s")
    assert list(files) == ["s.npy"]
    np.testing.assert_array_equal(np.load(io.BytesIO(files["s.npy"])), values)


def test_types_that_only_jax_or_python_know_become_arrays_that_numpy_reads():
    small = media.show(jnp.ones((2, 3), jnp.bfloat16), "vector")["samples.npy"]
    np.testing.assert_array_equal(np.load(io.BytesIO(small)), np.ones((2, 3), np.float32))
    text = np.load(io.BytesIO(media.show(np.array(["a", "bc"], object), "text")["samples.npy"]))
    assert text.tolist() == ["a", "bc"]
    image = media.show(jnp.zeros((1, 2, 2, 3), jnp.bfloat16), "picture")
    assert list(image) == ["samples.png"]


SHAPES = [
    shape
    for axes in range(1, 6)
    for shape in itertools.product(*[(0, 1, 3), (1, 2, 40), (1, 3), (1, 5), (1, 3)][:axes])
]
TYPES = ["float32", "float64", "float16", "uint8", "int16", "int64", "bool", "complex64", "uint64"]


@pytest.mark.parametrize("kind", ["picture", "video", "waveform", "points", "values", "label"])
@pytest.mark.filterwarnings("error")
def test_no_array_of_numbers_raises(kind):
    """Every shape with a type in turn, and with extreme values: NaN, infinities, the largest numbers."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    for number, shape in enumerate(SHAPES):
        dtype = np.dtype(TYPES[number % len(TYPES)])
        values = rng.normal(size=shape) * rng.choice([1e-300, 1.0, 300.0])
        if dtype.kind in "fc":
            extreme = rng.choice([np.nan, np.inf, -np.inf, float(np.finfo(dtype).max)], shape)
            with np.errstate(all="ignore"):
                values = np.where(rng.random(shape) < 0.3, extreme, values).astype(dtype)
        else:
            values = np.rint(np.abs(values)).astype(dtype)
        options = {}
        if number % 2:
            options["labels"] = rng.choice([0.0, 5.0, -1.0, np.nan], shape[:1])
        if number % 3 and len(shape) > 1:
            options["mask"] = rng.choice([0.0, 1.0, np.nan], shape[:2])
            options["features"] = rng.choice([0.0, 1.0, np.inf], (*shape[:2], number % 4))
        texts = ["x" * 50, "\ud800"]
        files = media.show(values, kind, names=["C", "H"], captions=texts, rate=number % 5, **options)
        assert files
        for name, data in files.items():
            assert isinstance(data, bytes)
            if name.endswith(".png"):
                assert read(data).size


def test_what_is_not_finite_is_seen():
    for bad in (np.nan, np.inf):
        images = np.zeros((1, 32, 32, 3))
        images[0, 4, 5] = bad
        assert is_magenta(read(media.show(images, "picture")["samples.png"])).sum() == 1
        assert is_magenta(read(media.show(images[None], "video")["samples.png"])).sum() == 1
        sound = np.full((1, 4000, 1), 0.1)
        sound[0, 2000] = bad
        assert is_magenta(read(media.show(sound, "waveform")["samples.png"])).sum() > 128


def test_files_are_written_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_bytes(b"old")
    files = {"one.txt": b"1", "two.txt": b"22"}
    paths = media.write(tmp_path / "a", files)
    assert [path.read_bytes() for path in paths] == [b"1", b"22"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(files)
    assert media.write(tmp_path / "b" / "c", files)[0].read_bytes() == b"1"


def test_examples_that_are_not_finite_are_counted():
    values = np.zeros((5, 4, 4, 1), np.float32)
    values[1, 0, 0] = np.nan
    points = np.zeros((5, 3), jnp.bfloat16)
    points[3] = np.inf
    labels = np.arange(5)
    assert (
        media.not_finite({"image": values, "x": points, "label": labels})
        == "2 of 5 samples hold numbers that are not finite"
    )
    assert media.not_finite({"image": values[2:], "label": labels[2:]}) == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: media.show(1.0, "values"), r"values.shape = \(\); allowed are \[n, ...\]"),
        (lambda: media.show(IMAGES, "picture", labels=[1]), r"labels.shape = \(1,\); allowed are \(5\), or None"),
        (
            lambda: media.show(SETS, "points", mask=np.ones((3, 5))),
            r"mask.shape = \(3, 5\); allowed are \(3, 6\), or None",
        ),
        (
            lambda: media.show(SETS, "points", features=np.ones((3, 6))),
            r"features.shape = \(3, 6\); allowed are \(3, 6, any\), or None",
        ),
        (lambda: media.write(".", {"../a.png": b""}), "a file's name = '../a.png'; allowed are names without"),
        (lambda: media.write(".", {"..": b""}), "a file's name = '..'"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_table_of_contents_is_complete():
    assert sorted(media.__all__) == media.__all__
    assert all(callable(getattr(media, name)) for name in media.__all__)
