import json
import shutil

import numpy as np
import pytest

from jaxdiff.data import Examples, from_arrays, in_memory, open_tfds


@pytest.mark.parametrize("name", ["swatches/square", "swatches/square:1.2.0"])
def test_open_tfds_reads_what_was_written(swatches_dir, name):
    examples = open_tfds(name, data_dir=swatches_dir)
    assert (examples.shape, examples.num_classes, examples.class_names) == ((6, 6, 3), 2, ("warm", "cold"))
    assert len(examples) == 60
    for i in range(60):
        record = examples.source[i]
        assert set(record) == {"image", "label"}
        assert record["image"].dtype == np.uint8
        np.testing.assert_array_equal(record["image"], np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8))
        assert record["label"] == i % 2


def test_split_expressions_partition_a_set(swatches_dir):
    parts = ("train[:70%]", "train[70%:]", "validation", "train+validation")
    first, rest, validation, whole = (
        in_memory(open_tfds("swatches/square", part, swatches_dir)).source.x for part in parts
    )
    assert (len(first), len(rest), len(validation)) == (42, 18, 4)
    np.testing.assert_array_equal(np.concatenate([first, rest, validation]), whole)


def test_size_gives_images_one_shape(swatches_dir):
    with pytest.raises(ValueError, match=r"size = None.*swatches/varied.*\(None, None, 3\)"):
        open_tfds("swatches/varied", data_dir=swatches_dir)
    examples = open_tfds("swatches/varied", "validation", swatches_dir, size=5)
    np.testing.assert_array_equal(examples.source[3]["image"], np.full((5, 5, 3), [3, 6, 9]))
    with pytest.raises(ValueError, match="size = 0; allowed are integers of at least 1"):
        open_tfds("swatches/varied", data_dir=swatches_dir, size=0)


def test_the_newest_version_is_opened_unless_one_is_named(swatches_dir, tmp_path):
    old, new = tmp_path / "swatches" / "square" / "1.2.0", tmp_path / "swatches" / "square" / "1.10.0"
    shutil.copytree(swatches_dir / "swatches" / "square" / "1.2.0", old)
    shutil.copytree(old, new)
    info = json.loads((new / "dataset_info.json").read_text())
    (new / "dataset_info.json").write_text(json.dumps({**info, "version": "1.10.0"}))
    # As text 1.2.0 comes after 1.10.0. The only configuration need not be named.
    assert open_tfds("swatches", data_dir=tmp_path).source.records.dataset_info.version == "1.10.0"
    assert open_tfds("swatches:1.2.0", data_dir=tmp_path).source.records.dataset_info.version == "1.2.0"


def test_a_missing_set_is_named_and_available_sets_are_listed(swatches_dir, tmp_path):
    cases = {
        "swatches": r"'swatches' in data_dir = '.*' has several configurations; name one of .*square, .*varied",
        "swatches/sqare": r"not in data_dir .*available there: swatches/square, swatches/varied; embedded: digits\); "
        "did you mean 'swatches/square'",
        "swatches/square:9.9.9": r"versions there: 1\.2\.0$",
        "MNITS": "did you mean 'mnist'",
        "digits": "call open_digits",
        "dogits": "did you mean 'digits'",
        "celeb_a": r"'celeb_a' is not prepared in data_dir .*available there: swatches.*download_and_prepare\(\)",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            open_tfds(name, data_dir=swatches_dir)
        assert "\n" not in str(caught.value)
        assert str(swatches_dir) in str(caught.value)
    with pytest.raises(ValueError, match=r"'mnist': data_dir = '.*nowhere' is not a directory"):
        open_tfds("mnist", data_dir=tmp_path / "nowhere")


def test_the_default_directory_is_that_of_tfds(swatches_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(swatches_dir))
    assert len(open_tfds("swatches/square")) == 60


def test_unknown_split_is_named(swatches_dir):
    with pytest.raises(
        ValueError, match=r"split = 'validaton'; allowed are .*train, validation .*did you mean 'validation'"
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
    with pytest.raises(ValueError, match=r"as tfrecord; prepare it with file_format='array_record'"):
        open_tfds("swatches/square", data_dir=tmp_path / "other_format")

    next(copy("no_shard").glob("*train.array_record*")).unlink()
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(open_tfds("swatches/square", data_dir=tmp_path / "no_shard"))

    shard = next(copy("cut_shard").glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(open_tfds("swatches/square", data_dir=tmp_path / "cut_shard"))


# The counts of LeCun, Cortes and Burges. The mean and the standard deviation below are the usual ones of MNIST.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_mnist_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:  # the same code on a set that the tests write
        assert in_memory(open_tfds("swatches/square", data_dir=swatches_dir)).source.labels.tolist() == [0, 1] * 30
        return
    examples = in_memory(open_tfds("mnist", data_dir=shared_data))
    assert (len(examples), examples.shape, examples.num_classes) == (60_000, (28, 28, 1), 10)
    assert np.bincount(examples.source.labels).tolist() == MNIST_TRAIN
    pixels = examples.source.x / np.float32(255)
    assert abs(pixels.mean() - 0.1307) < 5e-5
    assert abs(pixels.std(dtype=np.float64) - 0.3081) < 5e-5


def test_cifar10_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:
        varied = open_tfds("swatches/varied", data_dir=swatches_dir, size=4)
        assert in_memory(varied).source.x[8, 0, 0].tolist() == [8, 16, 24]
        return
    assert len(open_tfds("cifar10", data_dir=shared_data)) == 50_000
    examples = in_memory(open_tfds("cifar10", "test", shared_data))
    assert (len(examples), examples.shape) == (10_000, (32, 32, 3))
    assert examples.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(examples.source.labels).tolist() == [1000] * 10
    # The usual means of the three channels, which are those of the training part: near, and in that order.
    np.testing.assert_allclose(examples.source.x.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=0.01)


def test_in_memory_changes_no_record(swatches_dir):
    examples = open_tfds("swatches/varied", data_dir=swatches_dir, size=4)
    memory = in_memory(examples)
    assert (memory.shape, memory.num_classes, memory.class_names) == ((4, 4, 3), 2, ("warm", "cold"))
    assert memory.source.x.flags.c_contiguous
    for i in range(len(examples)):
        np.testing.assert_array_equal(memory.source[i]["image"], examples.source[i]["image"])
        assert memory.source[i]["label"] == examples.source[i]["label"]
    assert in_memory(memory) is memory


class Halves:
    """A user's source of floating-point records, whose shape is wrong from record 600 on."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"image": np.full(2 if index < 600 else 3, index + 0.5)}


def test_in_memory_reads_any_source_and_checks_its_shapes():
    memory = in_memory(Examples(Halves(600), (2,)))
    assert memory.source.x.dtype == np.float32
    np.testing.assert_array_equal(memory.source.x[:, 1], np.arange(600) + 0.5)
    with pytest.raises(ValueError, match=r"shape of record 600 = \(3,\); allowed are \(2,\)"):
        in_memory(Examples(Halves(700), (2,)))


def test_from_arrays():
    points = np.random.default_rng(0).normal(size=(5, 2))
    examples = from_arrays(points)
    assert (len(examples), examples.shape, examples.num_classes, examples.class_names) == (5, (2,), 0, ())
    assert set(examples.source[0]) == {"image"}
    np.testing.assert_array_equal(examples.source.x, points.astype(np.float32))

    labelled = from_arrays(np.zeros((3, 4, 4, 1), np.uint8), labels=[2, 0, 1], class_names=["a", "b", "c", "d"])
    assert labelled.source.x.dtype == np.uint8
    assert (labelled.num_classes, labelled.source[0]["label"]) == (4, 2)
    assert from_arrays(points, [0, 1, 2, 0, 6]).num_classes == 7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 4, 4), np.uint8),), ValueError, r"\(3, 4, 4\).*\[n, height, width, channels\]"),
        ((np.zeros((3, 2), np.int64),), TypeError, "x.dtype = int64"),
        ((np.zeros(3),), ValueError, "at least one event axis"),
        ((np.zeros((0, 2)),), ValueError, r"\(0, 2\)"),
        ((np.array([[0.0, np.nan]]),), ValueError, "x = nan; allowed are finite numbers"),
        ((np.zeros((3, 2)), [0.0, 1.0, 2.0]), TypeError, "labels.dtype = float64; allowed are integer types"),
        ((np.zeros((3, 2)), [0, 1]), ValueError, r"labels.shape = \(2,\); allowed are \(3,\)"),
        ((np.zeros((3, 2)), [0, 1, -1]), ValueError, r"labels.min\(\) = -1; allowed are integers of at least 0"),
        (
            (np.zeros((3, 2)), [0, 1, 2], ["a", "b"]),
            ValueError,
            r"labels.max\(\) = 2; allowed are integers of at most 1",
        ),
        ((np.zeros((3, 2)), None, ["a"]), ValueError, r"class_names = \('a',\); allowed are \(\) without labels"),
    ],
)
def test_from_arrays_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        from_arrays(*arguments)
