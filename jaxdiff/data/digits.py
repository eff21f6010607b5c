"""The embedded data set: scikit-learn's 1,797 real handwritten digits, as a TFDS builder.

They are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998): 8x8
pixels of 17 grey levels, each counting the set pixels in a 4x4 block of a scanned 32x32 bitmap.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Shaped, UInt8
from PIL import Image

TEST_EVERY = 5


def levels_to_pixels(levels: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Maps grey levels 0..16 to bytes 0..255, one byte for each level."""
    return np.rint(np.asarray(levels) * (255 / 16)).astype(np.uint8)


def pixels_to_levels(pixels: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Maps bytes 0..255 to the nearest of the grey levels 0..16: the inverse of `levels_to_pixels`."""
    return np.rint(np.asarray(pixels) * (16 / 255)).astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
    """Real handwritten digits of 8x8 pixels; every fifth one of scikit-learn's order is in `test`, the rest in `train`.

    Records keep scikit-learn's order. Written as ArrayRecord unless told otherwise, as TFDS's default needs TensorFlow.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012, the name and type are TFDS's

    # TFDS looks for download checksums beside the builder's file, with a package that it does not declare
    # (importlib_resources). There is nothing to download.
    code_path = None

    def __init__(self, *, file_format: Any = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 1,797 real handwritten digits that come with scikit-learn, 8x8 pixels of 17 grey levels.",
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        from sklearn.datasets import load_digits  # heavy, and needed once only

        digits = load_digits()
        pixels, labels = levels_to_pixels(digits.images), digits.target
        test = np.arange(len(pixels)) % TEST_EVERY == TEST_EVERY - 1
        return {
            "train": self._generate_examples(pixels[~test], labels[~test]),
            "test": self._generate_examples(pixels[test], labels[test]),
        }

    def _generate_examples(
        self, pixels: UInt8[np.ndarray, "n 8 8"], labels: Shaped[np.ndarray, " n"]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            # TFDS encodes arrays with TensorFlow, but takes a picture that is encoded already as it is.
            png = io.BytesIO()
            Image.fromarray(image).save(png, "png")
            png.seek(0)
            yield i, {"image": png, "label": int(label)}


def prepare_digits(data_dir: str | os.PathLike[str]) -> Path:
    """Writes the digits below `data_dir` unless they are there, and returns the directory that holds them.

    Several processes may do so at once, and a process that is killed leaves nothing that another would take for the
    data: each writes into a directory of its own and moves the finished one into place, which is atomic.

    Raises:
      ValueError: `data_dir` cannot be written, or something else is where the digits belong.
    """
    root = Path(data_dir).expanduser()
    final = root / "digits" / str(Digits.VERSION)
    if _is_complete(final):
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".digits-", dir=root, ignore_cleanup_errors=True) as staging:
            # TFDS announces its work on standard output and draws bars on standard error.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                builder = Digits(data_dir=staging)
                builder.download_and_prepare(download_dir=Path(staging) / "downloads")
            try:
                os.rename(builder.data_path, final)
            except OSError as error:
                # Another process was first, which is as good.
                if not _is_complete(final):
                    raise ValueError(
                        f"data_dir = {str(root)!r}: {final} is there but is not the complete digits set; remove it"
                    ) from error
    except OSError as error:
        raise ValueError(
            f"data_dir = {str(root)!r}: the digits set cannot be written there ({error}); give a directory that can be"
        ) from error
    return final


def _is_complete(directory: Path) -> bool:
    return (directory / "dataset_info.json").is_file() and (directory / "features.json").is_file()
