"""`jaxdiff restore`: pictures of any size and kind in, PNG out, and one line for every mistake."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxdiff as jd
from jaxdiff.cli import restore
from jaxdiff.networks import UNet

RNG = np.random.default_rng(0)
TINY = UNet(channels=8, multipliers=(1,), num_blocks=1, attention_levels=(), mid_attention=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a run of coloured pictures of 8 x 8 pixels, and pictures of several kinds."""
    directory = tmp_path_factory.mktemp("restore")
    images, labels = RNG.integers(0, 256, (32, 8, 8, 3)).astype(np.uint8), np.arange(32) % 3
    jd.fit(TINY, {"image": images, "label": labels}, steps=2, batch_size=8, directory=directory / "run", progress=False)
    picture = Image.fromarray(images[0])
    picture.save(directory / "small.png")
    hidden = np.zeros((8, 8), np.uint8)
    hidden[2:6, 3:7] = 255
    Image.fromarray(hidden).save(directory / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(directory / "nothing.png")
    Image.fromarray(RNG.integers(0, 256, (7, 5, 3)).astype(np.uint8)).save(directory / "odd.png")
    lying = Image.fromarray(RNG.integers(0, 256, (9, 12, 3)).astype(np.uint8))
    exif = lying.getexif()
    exif[0x0112] = 6  # turned by a quarter
    lying.save(directory / "lying.jpg", exif=exif)
    clear = Image.fromarray(RNG.integers(0, 256, (8, 8, 4)).astype(np.uint8))
    clear.save(directory / "clear.webp", lossless=True, exact=True)
    picture.convert("P").save(directory / "palette.gif")
    picture.convert("CMYK").save(directory / "cmyk.tif")
    Image.fromarray(RNG.integers(0, 65536, (8, 8)).astype(np.uint16)).save(directory / "deep.png")
    (directory / "broken.jpg").write_bytes((directory / "lying.jpg").read_bytes()[:200])
    return directory


@pytest.fixture
def call(restored):
    """Restores with the run, in two steps."""
    return lambda line: restored(f"run {line} --steps 2")


def _pixels(path):
    return np.asarray(Image.open(path))


def test_inpainting_keeps_what_is_known(call, place):
    status, files, _ = call("small.png --task inpaint --mask mask.png --count 3 --out inpainted")
    assert status == 0
    assert files == [f"inpainted/small{end}" for end in (".png", ".mean.png", ".sheet.png")]
    out, was = _pixels(place / files[0]), _pixels(place / "small.png")
    hidden = _pixels(place / "mask.png") > 0
    np.testing.assert_array_equal(out[~hidden], was[~hidden])
    assert (out[hidden] != was[hidden]).any()
    of = json.loads(Image.open(place / files[2]).text["jaxdiff"])
    assert (of["task"], of["mask"], of["picture"], of["step"]) == ("inpaint", "mask.png", "small.png", 2)


def test_pictures_of_other_sizes_stand_upright_and_are_enlarged(call, place):
    """Tiles for the larger one, a margin for the smaller one; two pictures in one call."""
    status, files, _ = call("lying.jpg odd.png --task sr --scale 2 --count 1 --out large")
    assert status == 0
    assert [Image.open(place / name).size for name in files if name.count(".") == 1] == [(18, 24), (10, 14)]


@pytest.mark.parametrize(
    ("picture", "bands"), [("clear.webp", 4), ("palette.gif", 3), ("cmyk.tif", 3), ("deep.png", 3)]
)
def test_pictures_of_all_kinds_are_edited_and_keep_their_transparency(call, place, picture, bands):
    status, files, _ = call(f"{picture} --task edit --strength 0.5 --count 1 --ask label=1 --out edited")
    assert status == 0
    out = _pixels(place / files[0])
    assert out.shape == (8, 8, bands)
    if bands == 4:
        np.testing.assert_array_equal(out[..., 3], _pixels(place / picture)[..., 3])


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("small.png --task inpaint", "mask = 'none'; allowed are values, since the task is inpaint"),
        ("small.png --task sr --scale 2 --mask mask.png", "--mask = mask.png; allowed are none, since the task is sr"),
        ("small.png --task inpaint --mask nothing.png", "mask = 'nothing'; allowed are masks with white pixels"),
        ("odd.png --task inpaint --mask mask.png", "size of the mask = (8, 8); allowed are (5, 7)"),
        ("small.png --task smear", "--task = 'smear'"),
        ("small.png --task edit --strength 1.5", "--strength = 1.5; allowed are numbers from 0 to 1"),
        ("small.png --task sr --scale 1", "scale = 1; allowed are integers from 2 to 16"),
        ("small.png --task jpeg --quality 0", "quality = 0; allowed are integers from 1 to 100"),
        ("small.png broken.jpg --task jpeg --quality 50", "broken.jpg cannot be read as a picture"),
        ("nosuch.png --task jpeg --quality 50", "nosuch.png"),
        ("small.png small.png --task jpeg --quality 50", "allowed are pictures of different names"),
        ("--task jpeg --quality 50", "missing IMAGES"),
        ("small.png --task jpeg --quality 50 --method magic", "--method = 'magic'"),
        ("small.png --task jpeg --quality 50 --out mask.png", "out = mask.png; allowed are directories"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(call, place, line, text):
    before = sorted(place.rglob("*"))
    status, out, error = call(f"{line} --out never" if "--out" not in line else line)
    assert (status, out) == (2, [])
    assert text in error
    assert "\n" not in error
    assert sorted(place.rglob("*")) == before


def test_a_run_of_other_data_is_refused(tmp_path, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run = tmp_path / "toy"
    jd.fit(jd.networks.MLP(width=8), jd.data.Toy(n=64), steps=1, batch_size=8, directory=run, progress=False)
    with pytest.raises(SystemExit, match="2"):
        restore.main([str(run), "small.png", "--task", "jpeg", "--quality", "50"])
    assert "allowed are runs of a diffusion model of pictures" in capsys.readouterr().err
