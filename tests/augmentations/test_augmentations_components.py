"""Flip, Crop and EDM as components: their entries, their fields, their keys and their settings."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import components
from jaxdiff.augmentations import EDM, Augmentation, Crop, Degrade, Flip, augment
from jaxdiff.augmentations.degradations import Blur, Jpeg, Noise, Reduce, Resize, Sinc
from jaxdiff.data import Field, to_floats

KEYS = jax.random.split(jax.random.key(0), 64)
BYTES = np.random.default_rng(0).integers(0, 256, (64, 6, 8, 3)).astype(np.uint8)
LABELS = np.arange(64)
FIELDS = {"image": Field("picture", (6, 8, 3), "uint8"), "label": Field("label", (), "int32", 10)}
VIDEO = {"image": Field("video", (5, 6, 8, 3), "uint8", rate=8)}


def test_flip_mirrors_whole_pictures_of_bytes():
    out = jax.jit(Flip())(KEYS, {"image": BYTES, "label": LABELS})
    mirrored = np.asarray([np.array_equal(a, b[:, ::-1]) for a, b in zip(out["image"], BYTES, strict=True)])
    same = np.asarray([np.array_equal(a, b) for a, b in zip(out["image"], BYTES, strict=True)])
    assert out["image"].dtype == np.uint8
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 4.5 * 0.5 / 8  # standard errors of 64 examples
    np.testing.assert_array_equal(out["label"], LABELS)
    always = jax.jit(Flip(probability=1.0))(KEYS, {"image": BYTES})["image"]
    np.testing.assert_array_equal(always, BYTES[:, :, ::-1])


def test_flip_mirrors_all_frames_alike():
    videos = np.random.default_rng(1).integers(0, 256, (64, 5, 6, 8, 3)).astype(np.uint8)
    out = np.asarray(jax.jit(Flip())(KEYS, {"image": videos})["image"])
    mirrored = (out == videos[:, :, :, ::-1]).all((2, 3, 4))
    assert (mirrored.all(1) ^ (out == videos).all((1, 2, 3, 4))).all()
    assert 0 < mirrored.all(1).sum() < 64


@pytest.mark.parametrize("frames", [(), (2,)])
def test_crops_are_squares_of_the_picture_at_all_places(frames):
    # The value of a pixel is its place.
    place = np.broadcast_to(np.arange(48).reshape(6, 8, 1), (64, *frames, 6, 8, 1))
    out = np.asarray(jax.jit(Crop(size=4))(KEYS, {"image": place})["image"])
    assert out.shape == (64, *frames, 4, 4, 1)
    first = out.reshape(64, -1)[:, 0]
    square = np.arange(4)[:, None, None] * 8 + np.arange(4)[:, None]
    np.testing.assert_array_equal(out, np.broadcast_to(first.reshape(64, *[1] * (out.ndim - 1)) + square, out.shape))
    # 3 x 5 places. The probability that any is missing is 15 (14 / 15)^64 = 0.18, and that four are is 1e-4 or less.
    assert set(first // 8) == {0, 1, 2}
    assert set(first % 8) == {0, 1, 2, 3, 4}


def test_edm_adds_its_features():
    @jax.jit
    def both(keys, batch):
        return EDM(probability=0.8)(keys, batch), augment(keys, to_floats(batch["image"]), 0.8)

    out, (images, features) = both(KEYS, {"image": jnp.asarray(BYTES), "label": LABELS})
    assert out["image"].dtype == np.float32
    np.testing.assert_array_equal(out["image"], images)
    np.testing.assert_array_equal(out["augmentation"], features)
    np.testing.assert_array_equal(out["label"], LABELS)


@pytest.mark.parametrize("augmentation", [Flip(), Crop(size=4)])
def test_an_example_depends_on_its_own_key_alone(augmentation):
    whole = np.asarray(jax.jit(augmentation)(KEYS, {"image": BYTES})["image"])
    order = np.random.default_rng(2).permutation(64)[:7] // 2
    part = jax.jit(augmentation)(KEYS[order], {"image": BYTES[order]})["image"]
    np.testing.assert_array_equal(part, whole[order])


@pytest.mark.parametrize("augmentation", [Flip(), Crop(size=4), EDM(), Degrade(steps=(Noise(),), factor=2)])
def test_the_fields_are_those_of_the_batch(augmentation):
    batch = {"image": jax.ShapeDtypeStruct((2, 6, 8, 3), np.uint8), "label": jax.ShapeDtypeStruct((2,), np.int32)}
    out = jax.eval_shape(augmentation, KEYS[:2], batch)
    fields = augmentation.fields(FIELDS)
    assert {n: (v.shape[1:], v.dtype) for n, v in out.items()} == {n: (f.shape, f.dtype) for n, f in fields.items()}
    assert fields["label"] == FIELDS["label"]
    # Without the fields that it does not read, the augmentation does the same.
    read = {name: batch[name] for name in augmentation.reads}
    assert jax.eval_shape(augmentation, KEYS[:2], read) == {n: v for n, v in out.items() if n != "label"}


def test_fields_of_videos_keep_their_frames():
    assert Crop(size=4).fields(VIDEO)["image"] == Field("video", (5, 4, 4, 3), "uint8", rate=8)
    assert Flip().fields(VIDEO) == VIDEO


@pytest.mark.parametrize(
    ("augmentation", "fields", "message"),
    [
        (Flip(field="imgae"), FIELDS, "field = 'imgae'; allowed are fields of kind picture or video, which here are 'image'; did you mean 'image'"),
        (Flip(field="label"), FIELDS, "field = 'label'; allowed are fields of kind picture or video"),
        (EDM(), VIDEO, "field = 'image'; allowed are fields of kind picture, which here are none"),
        (EDM(to="label"), FIELDS, "to = 'label'; allowed are names other than those of the fields, image, label"),
        (EDM(), {"image": Field("picture", (3, 8, 1))}, r"shape of image = \(3, 8, 1\); allowed are \[h, w, c\] with sides of at least 4"),
        (Crop(size=7), FIELDS, "size = 7; allowed are integers up to 6"),
        (Degrade(), FIELDS, r"factor = 4; allowed are divisors of the sides of image, \(6, 8\)"),
        (Degrade(to="image", factor=2), FIELDS, "to = 'image'"),
        (Degrade(steps=(Jpeg(),), factor=1), {"image": Field("picture", (8, 8, 4))}, r"steps.0: shape of the picture = \(8, 8, 4\); allowed are \[h, w, 1\]"),
        (Degrade(steps=(Blur(), Reduce(), Sinc()), factor=8), {"image": Field("picture", (8, 8, 1))}, r"steps.2: shape of the picture = \(1, 1, 1\)"),
    ],
)  # fmt: skip
def test_fields_that_do_not_fit_are_named(augmentation, fields, message):
    with pytest.raises(ValueError, match=message):
        augmentation.fields(fields)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (Flip, {"probability": 1.5}, "probability = 1.5"),
        (Crop, {"size": 0}, "size = 0"),
        (EDM, {"probability": -1.0}, "probability = -1.0"),
        (Degrade, {"factor": 0}, "factor = 0"),
        (Degrade, {"steps": (Reduce(), Reduce())}, "steps = '2 times Reduce'; allowed are chains with at most one Reduce"),
        (Blur, {"sigma_min": 0.0}, "sigma_min = 0.0"),
        (Blur, {"sigma_min": 4.0}, "sigma_max = 3.0; allowed are numbers of at least sigma_min, 4.0"),
        (Blur, {"size_max": 8}, "size_max = 8; allowed are odd integers"),
        (Blur, {"size_min": 23}, "size_max = 21; allowed are odd integers of at least size_min, 23"),
        (Blur, {"generalised": 0.6, "plateau": 0.6}, "plateau = 0.6; allowed are numbers up to 1 - generalised"),
        (Sinc, {"cutoff_max": 1.1}, "cutoff_max = 1.1; allowed are numbers up to 1"),
        (Resize, {"scale_min": 1.1}, "scale_min = 1.1; allowed are numbers up to 1"),
        (Resize, {"scale_max": 0.9}, "scale_max = 0.9; allowed are numbers of at least 1"),
        (Noise, {"sigma_min": -1.0}, "sigma_min = -1.0"),
        (Noise, {"grey": 2.0}, "grey = 2.0"),
        (Jpeg, {"quality_min": 0}, "quality_min = 0; allowed are integers from 1 to 100"),
        (Jpeg, {"quality_min": 96}, "quality_max = 95; allowed are integers from 96 to 100"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


@pytest.mark.parametrize("augmentation", [Flip(probability=0.2), Crop(size=5), EDM(to="a"), Degrade(), Degrade(steps=(Blur(),), factor=2)])  # fmt: skip
def test_json_holds_all_settings(augmentation):
    tree = components.to_json(augmentation)
    again = components.from_json(Augmentation, tree)
    assert again == augmentation
    assert hash(again) == hash(augmentation)


@pytest.mark.parametrize("augmentation", [Flip(), Crop(), EDM(), Degrade()])
def test_every_setting_is_documented(augmentation):
    for setting in components.walk(augmentation, Augmentation):
        name = setting.path.rpartition(".")[2]
        if name != "kind" and not name.isdigit():
            assert f"\n  {name}: " in inspect.cleandoc(setting.owner.__doc__), setting.path
