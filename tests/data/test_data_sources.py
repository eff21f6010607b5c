import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxdiff.data import Examples, from_arrays, in_memory, open_tfds


class Swatches(tfds.core.GeneratorBasedBuilder):
    """Plain patches of colour in two classes, of a size each its own."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="varied", description="sizes differ"),
        tfds.core.BuilderConfig(name="square", description="6 by 6"),
    ]
    code_path = None

    def _info(self):
        side = 6 if self.builder_config.name == "square" else None
        features = {
            "picture": tfds.features.Image(shape=(side, side, 3)),
            "label": tfds.features.ClassLabel(names=["warm", "cold"]),
            "serial": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(9), "validation": self._generate_examples(4)}

    def _generate_examples(self, n):
        for i in range(n):
            size = (6, 6) if self.builder_config.name == "square" else (6 + i, 20 - i)
            png = io.BytesIO()
            Image.new("RGB", size, (i, 2 * i, 3 * i)).save(png, "png")
            yield i, {"picture": io.BytesIO(png.getvalue()), "label": i % 2, "serial": i}


@pytest.fixture(scope="module")
def swatches_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("swatches")
    for config in ("varied", "square"):
        Swatches(config=config, data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.mark.parametrize("name", ["swatches/square", "swatches/square:1.2.0"])
def test_open_tfds_reads_what_was_written(swatches_dir, name):
    images = open_tfds(name, data_dir=swatches_dir)
    assert (images.shape, images.num_classes, images.class_names) == ((6, 6, 3), 2, ("warm", "cold"))
    assert len(images) == 9
    for i in range(9):
        record = images.source[i]
        assert set(record) == {"image", "label"}
        assert record["image"].dtype == np.uint8
        np.testing.assert_array_equal(record["image"], np.full((6, 6, 3), [i, 2 * i, 3 * i]))
        assert record["label"] == i % 2


def test_size_makes_varied_images_alike(swatches_dir):
    with pytest.raises(ValueError, match=r"swatches/varied.*\(None, None, 3\); give size"):
        open_tfds("swatches/varied", data_dir=swatches_dir)
    images = open_tfds("swatches/varied", "validation", swatches_dir, size=5)
    np.testing.assert_array_equal(images.source[3]["image"], np.full((5, 5, 3), [3, 6, 9]))
    with pytest.raises(ValueError, match="size = 0 is not allowed"):
        open_tfds("swatches/varied", data_dir=swatches_dir, size=0)


def test_newest_version_is_taken_unless_one_is_named(swatches_dir, tmp_path):
    old, new = tmp_path / "swatches" / "square" / "1.2.0", tmp_path / "swatches" / "square" / "1.10.0"
    shutil.copytree(swatches_dir / "swatches" / "square" / "1.2.0", old)
    shutil.copytree(old, new)
    info = json.loads((new / "dataset_info.json").read_text())
    (new / "dataset_info.json").write_text(json.dumps({**info, "version": "1.10.0"}))
    # As text 1.2.0 comes after 1.10.0. The only configuration needs no naming.
    assert open_tfds("swatches", data_dir=tmp_path).source.records.dataset_info.version == "1.10.0"
    assert open_tfds("swatches:1.2.0", data_dir=tmp_path).source.records.dataset_info.version == "1.2.0"


def test_what_is_missing_is_named_with_what_is_there(swatches_dir, tmp_path):
    cases = {
        "swatches": r"'swatches' in data_dir = '.*' has several configurations; name one of .*square, .*varied",
        "swatches/sqare": r"not in data_dir .*available there: swatches/square, swatches/varied; embedded: digits\); "
        "did you mean 'swatches/square'",
        "swatches/square:9.9.9": r"versions there: 1\.2\.0$",
        "MNITS": "did you mean 'mnist'",
        "celeb_a": r"'celeb_a' is not prepared in data_dir .*available there: swatches.*download_and_prepare\(\)",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            open_tfds(name, data_dir=swatches_dir)
        assert "\n" not in str(caught.value)
        assert str(swatches_dir) in str(caught.value)
    with pytest.raises(ValueError, match=r"'mnist': data_dir = '.*nowhere' is not a directory"):
        open_tfds("mnist", data_dir=tmp_path / "nowhere")


def test_default_directory_is_tfdss_own(swatches_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(swatches_dir))
    assert len(open_tfds("swatches/square")) == 9


def test_unknown_split_is_named(swatches_dir):
    with pytest.raises(
        ValueError, match=r"split = 'validaton'.*train.*validation.*did you mean 'validation'"
    ) as caught:
        open_tfds("swatches/square", "validaton", swatches_dir)
    assert "\n" not in str(caught.value)


def test_broken_directories_are_named(swatches_dir, tmp_path):
    def copy(name):
        shutil.copytree(swatches_dir / "swatches", tmp_path / name / "swatches")
        return tmp_path / name / "swatches" / "square" / "1.2.0"

    (copy("no_info") / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be opened"):
        open_tfds("swatches/square", data_dir=tmp_path / "no_info")

    info = copy("other_format") / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"as tfrecord; it must be prepared with file_format='array_record'"):
        open_tfds("swatches/square", data_dir=tmp_path / "other_format")

    next(copy("no_shard").glob("*train.array_record*")).unlink()
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(open_tfds("swatches/square", data_dir=tmp_path / "no_shard"))

    shard = next(copy("cut_shard").glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(open_tfds("swatches/square", data_dir=tmp_path / "cut_shard"))


# LeCun, Cortes and Burges' counts; the mean and deviation are those everyone normalises MNIST with.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_mnist_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:  # the same path over the set that was written here
        assert in_memory(open_tfds("swatches/square", data_dir=swatches_dir)).source.labels.tolist() == [0, 1] * 4 + [0]
        return
    images = in_memory(open_tfds("mnist", data_dir=shared_data))
    assert (len(images), images.shape, images.num_classes) == (60_000, (28, 28, 1), 10)
    assert np.bincount(images.source.labels).tolist() == MNIST_TRAIN
    pixels = images.source.x / np.float32(255)
    assert abs(pixels.mean() - 0.1307) < 5e-5
    assert abs(pixels.std(dtype=np.float64) - 0.3081) < 5e-5


def test_cifar10_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:
        assert in_memory(open_tfds("swatches/square", data_dir=swatches_dir)).source.x[8, 0, 0].tolist() == [8, 16, 24]
        return
    assert len(open_tfds("cifar10", data_dir=shared_data)) == 50_000
    images = in_memory(open_tfds("cifar10", "test", shared_data))
    assert (len(images), images.shape) == (10_000, (32, 32, 3))
    assert images.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(images.source.labels).tolist() == [1000] * 10
    # The means per channel that everyone normalises CIFAR-10 with, of the training part: near, and in that order.
    np.testing.assert_allclose(images.source.x.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=0.01)


def test_in_memory_is_the_set_itself(swatches_dir):
    images = open_tfds("swatches/varied", data_dir=swatches_dir, size=4)
    memory = in_memory(images)
    assert (memory.shape, memory.num_classes, memory.class_names) == ((4, 4, 3), 2, ("warm", "cold"))
    assert memory.source.x.flags.c_contiguous
    for i in range(len(images)):
        np.testing.assert_array_equal(memory.source[i]["image"], images.source[i]["image"])
        assert memory.source[i]["label"] == images.source[i]["label"]
    assert in_memory(memory) is memory


class Halves:
    """A source of the user's own, of floating-point records that are not as promised from the 600th on."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"image": np.full(2 if index < 600 else 3, index + 0.5)}


def test_in_memory_takes_any_source_and_checks_it():
    memory = in_memory(Examples(Halves(600), (2,)))
    assert memory.source.x.dtype == np.float32
    np.testing.assert_array_equal(memory.source.x[:, 1], np.arange(600) + 0.5)
    with pytest.raises(ValueError, match=r"record 600 has shape \(3,\); the set's is \(2,\)"):
        in_memory(Examples(Halves(700), (2,)))


def test_from_arrays():
    points = np.random.default_rng(0).normal(size=(5, 2))
    images = from_arrays(points)
    assert (len(images), images.shape, images.num_classes, images.class_names) == (5, (2,), 0, ())
    assert set(images.source[0]) == {"image"}
    np.testing.assert_array_equal(images.source.x, points.astype(np.float32))

    labelled = from_arrays(np.zeros((3, 4, 4, 1), np.uint8), labels=[2, 0, 1], class_names=["a", "b", "c", "d"])
    assert labelled.source.x.dtype == np.uint8
    assert (labelled.num_classes, labelled.source[0]["label"]) == (4, 2)
    assert from_arrays(points, [0, 1, 2, 0, 6]).num_classes == 7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 4, 4), np.uint8),), ValueError, r"\(3, 4, 4\).*\[n, height, width, channels\]"),
        ((np.zeros((3, 2), np.int64),), TypeError, "x has dtype int64"),
        ((np.zeros(3),), ValueError, "event axis"),
        ((np.zeros((0, 2)),), ValueError, r"\(0, 2\)"),
        ((np.array([[0.0, np.nan]]),), ValueError, "NaN"),
        ((np.zeros((3, 2)), [0.0, 1.0, 2.0]), TypeError, "labels has dtype float64"),
        ((np.zeros((3, 2)), [0, 1]), ValueError, r"labels has shape \(2,\); allowed is \(3,\)"),
        ((np.zeros((3, 2)), [0, 1, -1]), ValueError, r"labels lie in -1..1; allowed are 0..1"),
        ((np.zeros((3, 2)), [0, 1, 2], ["a", "b"]), ValueError, r"labels lie in 0..2; allowed are 0..1"),
        ((np.zeros((3, 2)), None, ["a"]), ValueError, "without labels"),
    ],
)
def test_from_arrays_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        from_arrays(*arguments)
