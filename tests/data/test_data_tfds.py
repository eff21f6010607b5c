import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.components import from_json, to_json
from jaxdiff.data import Dataset, Field, Tfds, in_memory
from jaxdiff.data.features import Label, Padded, Picture, Points, Text, Values, Video, Waveform

FEATURES = "tensorflow_datasets.core.features"


def square(swatches_dir, **options):
    return Tfds("swatches/square", data_dir=swatches_dir, **options)


@pytest.mark.parametrize("name", ["swatches/square", "swatches/square:1.2.0"])
def test_pictures_and_labels_are_read_without_being_told(swatches_dir, name):
    examples = Tfds(name, data_dir=swatches_dir).open()
    assert examples.fields == {
        "label": Field("label", (), "int32", 2, ("warm", "cold")),
        "picture": Field("picture", (6, 6, 3), "uint8"),
    }
    assert len(examples) == 60
    for i in range(60):
        record = examples.source[i]
        assert set(record) == {"picture", "label"}
        assert record["picture"].dtype == np.uint8
        np.testing.assert_array_equal(record["picture"], np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8))
        assert record["label"] == i % 2


DECLARED = {
    "clip": Video(3, rate=8),
    "sound": Waveform(5, rate=8000),
    "places": Points(4),
    "numbers": Padded(4, values=(1, 6, 8)),
    "tags": Padded(3, classes=3),
    "caption": Text(),
    "serial": Label(4),
    "pair": Values(),
}


def test_declared_features_of_every_kind(medley_dir):
    columns = in_memory(Tfds("medley", data_dir=medley_dir, fields=DECLARED).open()).source.columns
    assert columns["clip"].shape == (4, 3, 4, 6, 3)
    assert columns["clip"][..., 0, 0, 0].tolist() == [[0, 0, 0], [10, 11, 11], [20, 21, 22], [30, 31, 32]]
    assert (columns["sound"][1, :, 0] * 4).tolist() == [-1, 0, 1, 2, 0]
    assert columns["places_mask"].sum(1).tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(columns["places"][2], [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 0, 0]])
    assert columns["numbers"][3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert columns["tags"].sum(1).tolist() == [[0, 0, i] for i in range(4)]
    assert columns["caption"][3] == "number 3: ünïcode"
    assert columns["serial"].tolist() == [0, 1, 2, 3]
    assert columns["pair"].tolist() == [[i, 0.5] for i in range(4)]


def test_features_that_need_telling_are_left_out(medley_dir):
    assert list(Tfds("medley", data_dir=medley_dir).open().fields) == ["caption"]


def test_wrong_declarations_are_named(medley_dir):
    cases = [
        ({"capton": Text()}, "fields = 'capton'; allowed are .*'medley': .*did you mean 'caption'"),
        ({"caption": Picture(4)}, r"fields\.caption = text; allowed are picture of type uint8"),
        ({"boxes": Values()}, r"fields\.boxes = of a kind that cannot be read"),
    ]
    for fields, message in cases:
        with pytest.raises(ValueError, match=message):
            Tfds("medley", data_dir=medley_dir, fields=fields).open()
    with pytest.raises(TypeError, match=r"fields\.x = 3; allowed are features of jaxdiff\.data\.features"):
        Tfds("medley", fields={"x": 3})
    few = Tfds("medley", data_dir=medley_dir, fields={"places": Points(2)}).open()
    with pytest.raises(ValueError, match=r"record 2 of medley:1\.0\.0 \(train\) cannot be read: rows of 'places' = 3"):
        in_memory(few)


def test_the_component_survives_json_and_its_examples_pickle(medley_dir):
    component = Tfds("medley", data_dir=medley_dir, fields=DECLARED)
    again = from_json(Dataset, json.loads(json.dumps(to_json(component))), "data")
    assert again == component
    assert hash(again) == hash(component)
    examples = pickle.loads(pickle.dumps(component.open()))
    assert examples.source[1]["caption"] == "number 1: ünïcode"


def test_split_expressions_partition_a_set(swatches_dir):
    parts = ("train[:70%]", "train[70%:]", "validation", "train+validation")
    first, rest, validation, whole = (
        in_memory(square(swatches_dir, split=part).open()).source.columns["picture"] for part in parts
    )
    assert (len(first), len(rest), len(validation)) == (42, 18, 4)
    np.testing.assert_array_equal(np.concatenate([first, rest, validation]), whole)


def test_size_gives_images_one_shape(swatches_dir):
    with pytest.raises(ValueError, match=r"fields\.picture\.size = None; .*\(None, None, 3\)"):
        Tfds("swatches/varied", data_dir=swatches_dir).open()
    examples = Tfds("swatches/varied", "validation", swatches_dir, {"picture": Picture(5)}).open()
    assert list(examples.fields) == ["picture"]
    np.testing.assert_array_equal(examples.source[3]["picture"], np.full((5, 5, 3), [3, 6, 9]))


def test_the_newest_version_is_opened_unless_one_is_named(swatches_dir, tmp_path):
    old, new = tmp_path / "swatches" / "square" / "1.2.0", tmp_path / "swatches" / "square" / "1.10.0"
    shutil.copytree(swatches_dir / "swatches" / "square" / "1.2.0", old)
    shutil.copytree(old, new)
    info = json.loads((new / "dataset_info.json").read_text())
    (new / "dataset_info.json").write_text(json.dumps({**info, "version": "1.10.0"}))
    # As text 1.2.0 comes after 1.10.0. The only configuration need not be named.
    assert Tfds("swatches", data_dir=tmp_path).open().source.name == "swatches:1.10.0 (train)"
    assert Tfds("swatches:1.2.0", data_dir=tmp_path).open().source.name == "swatches:1.2.0 (train)"


def test_a_missing_set_is_named_and_available_sets_are_listed(swatches_dir, tmp_path):
    cases = {
        "swatches": r"'swatches' in data_dir = '.*' has several configurations; name one of .*square, .*varied",
        "swatches/sqare": r"not in data_dir .*available there: swatches/square, swatches/varied\); "
        "did you mean 'swatches/square'",
        "swatches/square:9.9.9": r"versions there: 1\.2\.0$",
        "MNITS": "did you mean 'mnist'",
        "digits": "the embedded digits are of the kind Digits",
        "celeb_a": r"'celeb_a' is not prepared in data_dir .*available there: swatches.*download_and_prepare\(\)",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            Tfds(name, data_dir=swatches_dir).open()
        assert "\n" not in str(caught.value)
        assert str(swatches_dir) in str(caught.value)
    with pytest.raises(ValueError, match=r"'mnist': data_dir = '.*nowhere' is not a directory"):
        Tfds("mnist", data_dir=tmp_path / "nowhere").open()


def test_the_default_directory_is_that_of_tfds(swatches_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(swatches_dir))
    assert len(Tfds("swatches/square").open()) == 60


def test_unknown_split_is_named(swatches_dir):
    with pytest.raises(
        ValueError, match=r"split = 'validaton'; allowed are .*train, validation .*did you mean 'validation'"
    ) as caught:
        square(swatches_dir, split="validaton").open()
    assert "\n" not in str(caught.value)


def test_broken_directories_are_named(swatches_dir, tmp_path):
    def copy(name):
        shutil.copytree(swatches_dir / "swatches", tmp_path / name / "swatches")
        return tmp_path / name / "swatches" / "square" / "1.2.0"

    (copy("no_info") / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be opened"):
        square(tmp_path / "no_info").open()

    info = copy("other_format") / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"as tfrecord; prepare it with file_format='array_record'"):
        square(tmp_path / "other_format").open()

    next(copy("no_shard").glob("*train.array_record*")).unlink()
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(square(tmp_path / "no_shard").open())

    shard = next(copy("cut_shard").glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"swatches/square.*cannot be"):
        in_memory(square(tmp_path / "cut_shard").open())


def in_legacy_form(name):
    inner = {"type": name, "content": {}}
    return {"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "content": {"picture": inner}}


@pytest.mark.parametrize(
    "feature",
    [
        {"pythonClassName": "evil_set.Image", "image": {}},
        {"python_class_name": "evil_set.Image", "image": {}},
        in_legacy_form("evil_set.Image"),
        {"pythonClassName": f"{FEATURES}.sequence_feature.Sequence", "sequence": {"feature": {"type": "evil_set.X"}}},
        {
            "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps(in_legacy_form("evil_set.Image")["content"])},
        },
    ],
)
def test_a_directory_runs_no_code(swatches_dir, tmp_path, monkeypatch, feature):
    """TFDS itself imports the modules that `features.json` names, in each of these forms."""
    (tmp_path / "evil_set.py").write_text("raise SystemExit('this has run')")
    monkeypatch.syspath_prepend(tmp_path)
    directory = shutil.copytree(swatches_dir / "swatches" / "square" / "1.2.0", tmp_path / "swatches/square/1.2.0")
    tree = json.loads((directory / "features.json").read_text())
    tree["featuresDict"]["features"]["picture"] = feature
    (directory / "features.json").write_text(json.dumps(tree))
    with pytest.raises(
        ValueError, match=r"class = 'evil_set\.\w+'; allowed are the classes of tensorflow_datasets\.core"
    ):
        square(tmp_path).open()
    assert "evil_set" not in sys.modules


def test_a_directory_is_refused_that_imports_tensorflow_keeps_its_reader_waiting_or_names_files_elsewhere(
    swatches_dir, tmp_path
):
    directory = shutil.copytree(swatches_dir / "swatches" / "square" / "1.2.0", tmp_path / "swatches/square/1.2.0")
    features = directory / "features.json"
    kept = features.read_text()
    features.write_text(kept.replace('"uint8"', '"half a byte"'))
    with pytest.raises(ValueError, match=r"features\.json: dtype = 'half a byte'; allowed are 'string' and NumPy's"):
        square(tmp_path).open()
    features.write_text(kept)
    info = directory / "dataset_info.json"
    info.write_text(info.read_text().replace("{DATASET}", "../{DATASET}"))
    with pytest.raises(ValueError, match=r"file of the split 'train' = .*; allowed are files of the directory itself"):
        square(tmp_path).open()
    (directory / "label.labels.txt").unlink()
    os.mkfifo(directory / "label.labels.txt")  # TFDS reads the names of classes from this file
    with pytest.raises(ValueError, match=r"entry = 'label\.labels\.txt'; allowed are regular files"):
        square(tmp_path).open()


def test_the_identity_is_that_of_the_records_wherever_they_lie(swatches_dir, medley_dir, tmp_path):
    shutil.copytree(swatches_dir / "swatches", tmp_path / "elsewhere" / "swatches")
    here = square(swatches_dir).open().identity()
    assert square(tmp_path / "elsewhere").open().identity() == here
    others = [
        square(swatches_dir, split="validation"),
        square(swatches_dir, split="train[:50]"),
        square(swatches_dir, fields={"picture": Picture()}),
        square(swatches_dir, fields={"picture": Picture(5), "label": Label()}),
        square(swatches_dir, fields={"picture": Picture(5, "pad"), "label": Label()}),
        Tfds("medley", data_dir=medley_dir),
    ]
    assert len({here, *(other.open().identity() for other in others)}) == 1 + len(others)
    # Other records of the same features in the same place.
    moved = square(tmp_path / "elsewhere", split="validation")
    before = moved.open().identity()
    (shard,) = (tmp_path / "elsewhere" / "swatches" / "square" / "1.2.0").glob("*validation.array_record*")
    (other,) = (swatches_dir / "swatches" / "varied" / "1.2.0").glob("*validation.array_record*")
    shutil.copy(other, shard)
    assert moved.open().identity() != before


def test_importing_the_room_imports_no_tfds():
    program = "import sys, jaxdiff.data; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert not {"tensorflow_datasets", "tensorflow", "sklearn"} & set(out.stdout.split())


# The counts of LeCun, Cortes and Burges.
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:  # the same code on a set that the tests write
        assert in_memory(square(swatches_dir).open()).source.columns["label"].tolist() == [0, 1] * 30
        return
    assert len(Tfds("mnist", data_dir=shared_data).open()) == 60_000
    examples = in_memory(Tfds("mnist", "test", shared_data).open())
    assert np.bincount(examples.source.columns["label"]).tolist() == MNIST_TEST
    assert examples.fields["image"] == Field("picture", (28, 28, 1), "uint8")
    pixels = examples.source.columns["image"] / np.float32(255)
    # The usual ones, which are those of the training part: near.
    assert abs(pixels.mean() - 0.1307) < 0.003
    assert abs(pixels.std(dtype=np.float64) - 0.3081) < 0.003


def test_cifar10_is_the_published_set(shared_data, swatches_dir):
    if shared_data is None:
        varied = Tfds("swatches/varied", data_dir=swatches_dir, fields={"picture": Picture(4)}).open()
        assert in_memory(varied).source.columns["picture"][8, 0, 0].tolist() == [8, 16, 24]
        return
    assert len(Tfds("cifar10", data_dir=shared_data).open()) == 50_000
    examples = in_memory(Tfds("cifar10", "test", shared_data).open())
    assert (len(examples), examples.fields["image"].shape) == (10_000, (32, 32, 3))
    assert examples.fields["label"].names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(examples.source.columns["label"]).tolist() == [1000] * 10
    # The usual means of the three channels, which are those of the training part: near, and in that order.
    means = examples.source.columns["image"].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.01)
