"""`jaxdiff restore` with runs that were trained to restore: the picture is their condition, and no method is needed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from additions import blobs, instruction, small
from PIL import Image

import jaxdiff as jd
from jaxdiff.augmentations import Degrade
from jaxdiff.augmentations.degradations import Grey, Hide, Jpeg, OneOf
from jaxdiff.conditions import Planes
from jaxdiff.data import from_arrays
from jaxdiff.data.pixels import to_uint8, to_unit
from jaxdiff.models import Diffusion
from jaxdiff.runs import learned
from jaxdiff.runs.config import Config, TrainConfig
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.loop import train
from jaxdiff.runs.settings import read_settings

RNG = np.random.default_rng(1)
TASKS = (OneOf((Hide("box"), Hide("border", fill="grey"), Jpeg(10, 30))),)


@dataclasses.dataclass(frozen=True)
class Coloured(blobs.Blobs):
    """Blobs in colours that their brightness tells."""

    def open(self):
        grey = np.stack([record["image"] for record in super().open().source])
        return from_arrays(image=np.concatenate([grey, grey // 2, 255 - grey], axis=-1))


def length(steps):
    return TrainConfig(steps=steps, batch_size=32, ema_half_life=500, sample_every=0, log_every=50)


def config(augmentation, condition, steps):
    return Config(
        data=blobs.Blobs(),
        augmentations=(augmentation,),
        model=Diffusion(network=small.NETWORK, conditions={"low": condition}),
        optimizer=small.OPTIMIZER,
        train=length(steps),
        sample=small.SAMPLE,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with runs that enlarge, that do several tasks, and that edit; and pictures of blobs."""
    directory = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        train(config(Degrade(factor=2, steps=()), Planes("low", enlarge=2), 150), "sr")
        train(config(Degrade(factor=1, steps=TASKS), Planes("low"), 1), "several")
        grey = config(Degrade(factor=1, steps=(Grey(),)), Planes("low"), 100)
        train(dataclasses.replace(grey, data=Coloured()), "colours")
        train(dataclasses.replace(instruction.CONFIG, train=length(150)), "edits")
    pictures = [record["image"] for record in blobs.Blobs(8).open().source]
    for name, pixels in {"whole": pictures[0], "inner": pictures[0][2:6, 2:6]}.items():
        Image.fromarray(pixels[..., 0]).save(directory / f"{name}.png")
    for half in (0, 1):
        small_picture = np.full((4, 4), 70, np.uint8)
        small_picture[:, 2 * half : 2 * half + 2] += 120
        Image.fromarray(small_picture).save(directory / f"{('left', 'right')[half]}.png")
    Image.fromarray(np.full((8, 8), 70, np.uint8)).save(directory / "grey.png")
    hidden = np.zeros((8, 8), np.uint8)
    hidden[2:6, 3:7] = 255
    Image.fromarray(hidden).save(directory / "mask.png")
    return directory


def _pixels(path):
    return np.asarray(Image.open(path), float)


def _brighter_right(path):
    """By how many grey levels the right half of a picture of 8 x 8 pixels is brighter than the left one."""
    pixels = _pixels(path)
    assert pixels.shape == (8, 8)
    return pixels[:, 4:].mean() - pixels[:, :4].mean()


def test_small_pictures_are_enlarged_as_the_run_was_trained(restored, place):
    """The picture is the condition, the solver is the run's, and the result has the bright half of the picture."""
    status, files, error = restored("sr left.png right.png --count 3 --out large")
    assert (status, error) == (0, "")
    assert files == [f"large/{name}{end}" for name in ("left", "right") for end in (".png", ".mean.png", ".sheet.png")]
    for name, sign in (("left", -1), ("right", 1)):
        assert sign * _brighter_right(place / f"large/{name}.mean.png") > 60
    model = jd.load(place / "sr")
    low = to_unit(_pixels(place / "right.png").astype(np.uint8)[..., None])
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 1))[1]
    want = to_uint8(np.clip(model.sample(key, 3, low=low), -1, 1)[0])[..., 0]
    np.testing.assert_array_equal(_pixels(place / "large/right.png"), want)
    of = json.loads(Image.open(place / files[2]).text["jaxdiff"])
    assert (of["condition"], of["picture"], of["step"], "method" in of) == ("low", "left.png", 150, False)
    # The task and the scale may be said, and change nothing.
    assert restored("sr right.png --task sr --scale 2 --count 3 --out again")[0] == 0


def test_hidden_pixels_are_filled_in_by_a_model_of_several_tasks(restored, place):
    was = _pixels(place / "whole.png")
    hidden = _pixels(place / "mask.png") > 0
    status, files, _ = restored("several whole.png --task inpaint --mask mask.png --count 2 --out several")
    assert status == 0
    out = _pixels(place / files[0])
    np.testing.assert_array_equal(out[~hidden], was[~hidden])
    assert (out[hidden] != was[hidden]).any()
    status, files, _ = restored("several inner.png --task outpaint --pixels 2 --count 2 --out wider")
    assert status == 0
    np.testing.assert_array_equal(_pixels(place / files[0])[2:6, 2:6], was[2:6, 2:6])
    assert restored("several whole.png --task jpeg --count 2 --out decoded")[0] == 0


def test_the_colours_of_a_picture_do_not_tell_how_to_colour_it(restored, place):
    settings = read_settings(open_run(place / "colours"))
    how, model = learned.learned(settings, {}), jd.load(place / "colours")
    coloured = RNG.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    grey = np.asarray(Grey().apply(jax.random.key(0), coloured))

    def restore(picture):
        return learned.restore(jax.random.key(1), model, how, picture, 2, sampling=settings.config.sample)

    np.testing.assert_allclose(restore(coloured), restore(grey), atol=1e-5)
    assert np.abs(restore(grey) - restore(-grey)).max() > 0.1
    status, files, _ = restored("colours whole.png --task colorize --count 2 --out in-colour")
    assert status == 0
    assert np.ptp(_pixels(place / files[0]), axis=-1).mean() > 20  # grey became coloured


def test_pictures_are_edited_by_instruction(restored, place):
    """The run has pairs of pictures and a class; its own rule guides by both."""
    for half, sign in (("left", -1), ("right", 1)):
        status, files, _ = restored(f"edits grey.png --task edit --ask label={half} --count 3 --out {half}")
        assert status == 0
        assert sign * _brighter_right(place / files[1]) > 60


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("sr whole.png", "whole.png: size of the picture = (8, 8); allowed are (4, 4), that of the condition low"),
        ("sr left.png --task jpeg", "task = 'jpeg'; allowed are sr, which the run was trained for"),
        ("sr left.png --task sr --scale 4", "scale = 4; allowed are 2, since the run was trained for it"),
        ("sr left.png --method mmps", "method = 'mmps'; allowed are none, since the run was trained to restore"),
        ("sr left.png --noise 3", "noise = 3.0; allowed are 0, since the run was trained to restore"),
        ("sr left.png --quality 3", "--quality = 3; allowed are none, since the task is not said"),
        ("sr left.png --ask low=whole.png", "task = None; allowed are 'inpaint', 'outpaint', 'sr'"),
        ("several whole.png --task inpaint", "mask = 'none'; allowed are values, since the task is inpaint"),
        ("several whole.png --task deblur", "task = 'deblur'; allowed are inpaint, outpaint, jpeg, which the run was"),
        ("several whole.png --task jpeg --quality 9", "quality = 9; allowed are none, since the run was trained for"),
        ("several whole.png --task outpaint --pixels 2", "size of the picture = (12, 12); allowed are (8, 8)"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(restored, place, line, text):
    before = sorted(place.rglob("*"))
    status, out, error = restored(f"{line} --out never")
    assert (status, out) == (2, [])
    assert text in error
    assert "\n" not in error
    assert sorted(place.rglob("*")) == before
