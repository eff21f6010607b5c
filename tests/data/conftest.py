import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image


def png(picture: Image.Image) -> io.BytesIO:
    """A PNG file. TFDS encodes arrays with TensorFlow, which is not there."""
    out = io.BytesIO()
    picture.save(out, "png")
    return io.BytesIO(out.getvalue())


class Swatches(tfds.core.GeneratorBasedBuilder):
    """Patches in two classes: `varied` of plain colour and different sizes, `square` of 6x6 random pixels.

    The record i of `varied` is `(6 + i)` wide, `20 - i` high and of the colour `(i, 2i, 3i)`. The record i of `square`
    is `np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)`. The label is `i % 2`.
    """

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
        train = 60 if self.builder_config.name == "square" else 9
        return {"train": self._generate_examples(train), "validation": self._generate_examples(4)}

    def _generate_examples(self, n):
        for i in range(n):
            if self.builder_config.name == "square":
                picture = Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8))
            else:
                picture = Image.new("RGB", (6 + i, 20 - i), (i, 2 * i, 3 * i))
            yield i, {"picture": png(picture), "label": i % 2, "serial": i}


class Medley(tfds.core.GeneratorBasedBuilder):
    """Records of every kind. Record i has i + 1 frames, 3 i + 1 samples, i + 1 points, and so on."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None

    def _info(self):
        kinds = tfds.features
        features = {
            "clip": kinds.Sequence(kinds.Image(shape=(4, 6, 3))),
            "sound": kinds.Tensor(shape=(None,), dtype=np.int16, encoding="zlib"),
            "places": kinds.Tensor(shape=(None, 3), dtype=np.float32),
            "numbers": kinds.Tensor(shape=(None,), dtype=np.int32),
            "tags": kinds.Sequence(kinds.ClassLabel(num_classes=3)),
            "caption": kinds.Text(),
            "serial": kinds.Scalar(np.int64),
            "pair": kinds.Tensor(shape=(2,), dtype=np.float64),
            "boxes": kinds.Sequence({"box": kinds.BBoxFeature()}),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4)}

    def _generate_examples(self, n):
        for i in range(n):
            yield (
                i,
                {
                    "clip": [png(Image.new("RGB", (6, 4), (10 * i + frame,) * 3)) for frame in range(i + 1)],
                    "sound": np.arange(-1, 3 * i, dtype=np.int16) * 8192,
                    "places": np.arange(3 * i + 3, dtype=np.float32).reshape(-1, 3),
                    "numbers": np.array([1, 6, 8, 6][: i + 1], np.int32),
                    "tags": [2] * i,
                    "caption": f"number {i}: ünïcode",
                    "serial": i,
                    "pair": np.array([i, 0.5]),
                    "boxes": {"box": []},
                },
            )


@pytest.fixture(scope="session")
def medley_dir(tmp_path_factory) -> Path:
    """A data directory with `Medley`, as ArrayRecord."""
    root = tmp_path_factory.mktemp("medley")
    Medley(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture(scope="session")
def swatches_dir(tmp_path_factory) -> Path:
    """A data directory with both configurations of `Swatches`, as ArrayRecord."""
    root = tmp_path_factory.mktemp("swatches")
    for config in ("varied", "square"):
        Swatches(config=config, data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """The TFDS directory with the real mnist and cifar10, if this machine has one."""
    beside_checkout = Path(__file__).parents[3] / "shared" / "tensorflow_datasets"
    root = Path(os.environ.get("JAXDIFF_TEST_DATA", beside_checkout))
    return root if root.is_dir() else None
