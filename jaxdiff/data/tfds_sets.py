"""TFDS image sets by name, read from disk without TensorFlow."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxdiff.checks import did_you_mean, message, one_line
from jaxdiff.data.pixels import check_size, picture_to_array
from jaxdiff.data.sources import Examples
from jaxdiff.data.toy import TOYS


@dataclass(frozen=True, eq=False)
class TfdsSource:
    """Records of a TFDS set. PIL decodes them, so that the pixels are the same on every machine."""

    records: Any
    name: str
    image_key: str
    label_key: str | None
    shape: tuple[int, ...]
    size: int | None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int], /) -> list[dict[str, Any]]:
        """Reads many records at once, which is several times faster than one by one."""
        if indices and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"indices {min(indices)}..{max(indices)} of {self.name}; allowed are 0..{len(self) - 1}")
        try:
            raw = self.records.__getitems__(indices)
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise ValueError(f"records of {self.name} cannot be read: {one_line(error)}") from error
        return [self._decode(index, record) for index, record in zip(indices, raw, strict=True)]

    def _decode(self, index: int, raw: dict[str, Any]) -> dict[str, Any]:
        try:
            with Image.open(io.BytesIO(raw[self.image_key])) as picture:
                pixels = picture_to_array(picture, self.shape[-1], self.size)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"record {index} of {self.name} cannot be read: {one_line(error)}") from error
        if pixels.shape != self.shape:
            raise ValueError(message(f"shape of record {index} of {self.name}", pixels.shape, str(self.shape)))
        return {"image": pixels} if self.label_key is None else {"image": pixels, "label": int(raw[self.label_key])}


def open_tfds(
    name: str, split: str = "train", data_dir: str | os.PathLike[str] | None = None, size: int | None = None
) -> Examples:
    """Opens an image set that TFDS has prepared in `data_dir`.

    Any version on disk can be opened, even if the installed TFDS cannot make it. The image is the feature `image`, or
    else the only image feature. The label is the feature `label`, or else the only class label.

    Args:
      name: `name`, `name/config`, `name:1.2.3` or `name/config:1.2.3`. Without a version the newest on disk is opened.
      split: any TFDS split expression, such as `train`, `train[:80%]` or `train+test`.
      data_dir: the directory of TFDS; None is TFDS's default (`$TFDS_DATA_DIR`, or `~/tensorflow_datasets`).
      size: side in pixels of the squares that images are cropped and resampled to; None keeps images as they are.

    Raises:
      ValueError: no such directory, set or split; a set that is not stored as ArrayRecord; a set without an image of
        8 bits and 1 or 3 channels; images of different sizes without `size`; broken files.
    """
    check_size(size)
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    directory = _find(name, root)
    try:
        builder = tfds.builder_from_directory(directory)
    except Exception as error:  # a broken directory: TFDS raises many types
        raise ValueError(f"data set {name!r}: {directory} cannot be opened: {one_line(error)}") from error

    features = builder.info.features
    image_key = _only(features, tfds.features.Image, "image")
    label_key = _only(features, tfds.features.ClassLabel, "label")
    if image_key is None:
        allowed = "sets with a feature 'image' or a single image feature"
        raise ValueError(f"data set {name!r} has the features {', '.join(features)}; allowed are {allowed}")
    image = features[image_key]
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
        found = f"{image.np_dtype.__name__} images of shape {image.shape}"
        raise ValueError(f"data set {name!r} has {found}; allowed are uint8 images of 1 or 3 channels")
    shape = tuple(image.shape) if size is None else (size, size, image.shape[-1])
    if None in shape:
        raise ValueError(f"size = None; allowed are positive integers: data set {name!r} has images of shape {shape}")

    splits = list(builder.info.splits)
    try:
        records = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
        len(records)
    except NotImplementedError as error:
        raise ValueError(
            f"data set {name!r} is stored in {directory} as {builder.info.file_format.value}; "
            "prepare it with file_format='array_record'"
        ) from error
    except Exception as error:  # an unknown split, a missing or broken file: TFDS raises many types
        if split not in splits:
            allowed = f"expressions of {', '.join(splits)} for data set {name!r}"
            raise ValueError(message("split", split, allowed) + did_you_mean(split, splits)) from error
        raise ValueError(f"split = {split!r} of data set {name!r} cannot be read: {one_line(error)}") from error

    label = None if label_key is None else features[label_key]
    source = TfdsSource(records, f"{name} ({split})", image_key, label_key, shape, size)
    return Examples(source, shape, label.num_classes if label else 0, tuple(label.names or ()) if label else ())


def _find(name: str, root: Path) -> Path:
    """The newest directory below `root` that holds the set, given as `name`, `name/config` or with `:version`."""
    full_name, _, version = name.partition(":")
    there = _prepared(root)
    known = [*there, *tfds.list_builders(with_community_datasets=False)]
    where = f"data_dir = {str(root)!r}"
    listing = f"available there: {', '.join(there) or 'nothing'}; embedded: digits"
    if full_name in there:
        versions = there[full_name]
        if version and version not in versions:
            raise ValueError(f"data set {name!r} is not in {where}; versions there: {', '.join(versions)}")
        return versions[version] if version else versions[max(versions, key=tfds.core.Version)]
    configs = [other for other in there if other.startswith(f"{full_name}/")]
    if len(configs) == 1:
        return _find(f"{configs[0]}:{version}" if version else configs[0], root)
    if configs:
        raise ValueError(f"data set {name!r} in {where} has several configurations; name one of {', '.join(configs)}")
    base, _, config = full_name.partition("/")
    hint = did_you_mean(full_name, [*known, "digits", *TOYS])
    if not root.is_dir():
        raise ValueError(f"data set {name!r}: {where} is not a directory{'' if base in known else hint}")
    if base == "digits":
        raise ValueError(f"data set {name!r} is not in {where}; call open_digits for the embedded digits")
    if base in known and not (config and did_you_mean(full_name, there)):
        raise ValueError(
            f"data set {name!r} is not prepared in {where} ({listing}); to download and prepare it: tfds.builder("
            f"{name!r}, data_dir={str(root)!r}, file_format='array_record').download_and_prepare()"
        )
    raise ValueError(f"data set {name!r} is not in {where} ({listing}){hint}")


def _prepared(root: Path) -> dict[str, dict[str, Path]]:
    """The sets prepared below `root`, as `{"name" or "name/config": {version: directory}}`."""
    found: dict[str, dict[str, Path]] = {}
    for pattern in ("*/*/features.json", "*/*/*/features.json"):
        for features in sorted(root.glob(pattern)):
            *full_name, version = features.parent.relative_to(root).parts
            hidden = any(part.startswith(".") for part in full_name)
            if tfds.core.Version.is_valid(version) and not hidden:
                found.setdefault("/".join(full_name), {})[version] = features.parent
    return found


def _only(features: Any, kind: type, preferred: str) -> str | None:
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    if preferred in keys:
        return preferred
    return keys[0] if len(keys) == 1 else None
