"""TFDS sets read from disk, without TensorFlow."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxdiff.checks import did_you_mean, message, one_line
from jaxdiff.data.checksums import Checksum, settings_text, spaced
from jaxdiff.data.features import Declared, Feature, understood
from jaxdiff.data.fields import Field
from jaxdiff.data.sources import CHUNK, Examples
from jaxdiff.data.tfds_checks import check_directory, check_splits
from jaxdiff.files import expand_user


class Undecoded(tfds.decode.SkipDecoding):
    """Leaves pictures as encoded bytes, also in sequences: PIL decodes them, to the same pixels on every machine."""

    def decode_batch_example_np(self, batch: Any) -> Any:
        return batch


@dataclass(frozen=True, eq=False)
class TfdsSource:
    """Records of a TFDS set.

    Attributes:
      records: the serialised records, by index.
      known: TFDS's features that are read, as one dictionary.
      name: the set, its version and its split, for errors.
      split: the split.
      decoders: TFDS's decoders of the features.
      features: how each feature becomes fields.
      fields: the fields of each feature.
    """

    records: Any
    known: Any
    name: str
    split: str
    decoders: dict[str, Any]
    features: dict[str, Feature]
    fields: dict[str, dict[str, Field]]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int], /) -> list[dict[str, Any]]:
        """Reads many records at once, which is several times faster than one by one."""
        return [self._decode(i, raw) for i, raw in zip(indices, self._raw(indices), strict=True)]

    def identity(self) -> str:
        """A checksum of the features, the split, the number of records, and up to 10,000 records, evenly spaced."""
        found = Checksum().add(self.split, len(self))
        for name, feature in sorted(self.features.items()):
            found.add(name, type(feature).__name__, settings_text(feature))
        chosen = spaced(len(self))
        for start in range(0, len(chosen), CHUNK):
            found.add(*self._raw(chosen[start : start + CHUNK]))
        return found.text()

    def _raw(self, indices: Sequence[int]) -> Sequence[bytes]:
        if not len(indices):
            return []
        if not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"indices {min(indices)}..{max(indices)} of {self.name}; allowed are 0..{len(self) - 1}")
        try:
            raw: Sequence[bytes] = self.records.__getitems__(list(indices))
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise ValueError(f"records of {self.name} cannot be read: {one_line(error)}") from error
        return raw

    def _decode(self, index: int, record: bytes) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        try:
            raw = self.known.deserialize_example_np(record, decoders=self.decoders)
            for name, feature in self.features.items():
                entries |= feature.read(name, raw[name], self.fields[name])
            for own in self.fields.values():
                for name, field in own.items():
                    shape = np.shape(entries[name])
                    if shape != field.shape:
                        raise ValueError(message(f"shape of {name!r}", shape, str(field.shape)))
        except Exception as error:  # TFDS and NumPy raise many types
            raise ValueError(f"record {index} of {self.name} cannot be read: {one_line(error)}") from error
        return entries


def open_set(name: str, split: str, data_dir: str | None, features: Mapping[str, Feature]) -> Examples:
    """Opens a set. The arguments and the errors are those of `Tfds`."""
    root = expand_user("data_dir", data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    directory = _find(name, root)
    try:
        check_directory(directory)
        builder = tfds.builder_from_directory(directory)
        check_splits(builder.info.splits, directory)
        # TFDS gives them in another order in every process.
        there = {feature: _declared(known) for feature, known in sorted(builder.info.features.items())}
    except Exception as error:  # a broken directory: TFDS raises many types
        raise ValueError(f"data set {name!r}: {directory} cannot be opened: {one_line(error)}") from error
    chosen = _chosen(name, there, features)
    fields = {feature: how.fields(feature, there[feature]) for feature, how in chosen.items()}
    flat: dict[str, Field] = {}
    for own in fields.values():
        for entry, field in own.items():
            if entry in flat:
                raise ValueError(message("fields", entry, "features whose fields have different names"))
            flat[entry] = field
    known = tfds.features.FeaturesDict({feature: builder.info.features[feature] for feature in chosen})
    full_name = f"{name.partition(':')[0]}:{builder.info.version} ({split})"
    pictures = {feature: Undecoded() for feature in chosen if there[feature].kind in ("picture", "pictures")}
    records = _records(builder, name, split, directory)
    return Examples(TfdsSource(records, known, full_name, split, pictures, chosen, fields), flat)


def _chosen(name: str, there: Mapping[str, Declared], features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The features that are read."""
    for feature in features:
        if feature not in there:
            allowed = f"features of data set {name!r}: {', '.join(there)}"
            raise ValueError(message("fields", feature, allowed) + did_you_mean(feature, there))
    if features:
        return dict(features)
    found = {feature: how for feature, declared in there.items() if (how := understood(declared)) is not None}
    if not found:
        shown = ", ".join(f"{feature} ({declared})" for feature, declared in there.items())
        raise ValueError(f"data set {name!r} has the features {shown}; name those to be read in `fields`")
    return found


def _declared(feature: Any) -> Declared:
    """A TFDS feature, described."""
    kinds = tfds.features
    if isinstance(feature, kinds.Sequence) and isinstance(feature.feature, kinds.Image):
        return Declared("pictures", tuple(feature.shape), np.dtype(feature.np_dtype).name)
    if isinstance(feature, kinds.Image):
        return Declared("picture", tuple(feature.shape), np.dtype(feature.np_dtype).name)
    if isinstance(feature, kinds.ClassLabel):
        return Declared("label", (), np.dtype(feature.np_dtype).name, tuple(feature.names or ()))
    if isinstance(feature, kinds.Text):
        return Declared("text")
    if isinstance(feature, kinds.Tensor) or (
        isinstance(feature, kinds.Sequence) and isinstance(feature.feature, kinds.Tensor)
    ):
        dtype = np.dtype(feature.np_dtype)
        text = dtype.kind in "OUS" and feature.shape == ()
        return Declared("text") if text else Declared("numbers", tuple(feature.shape), dtype.name)
    return Declared("other")


def _records(builder: Any, name: str, split: str, directory: Path) -> Any:
    """The serialised records of a split."""
    splits = list(builder.info.splits)
    try:
        records = builder.as_data_source(split).data_source
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
    return records


def _find(name: str, root: Path) -> Path:
    """The newest directory below `root` that holds the set, given as `name`, `name/config` or with `:version`."""
    full_name, _, version = name.partition(":")
    there = _prepared(root)
    known = [*there, *tfds.list_builders(with_community_datasets=False)]
    where = f"data_dir = {str(root)!r}"
    listing = f"available there: {', '.join(there) or 'nothing'}"
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
    hint = did_you_mean(full_name, known)
    if not root.is_dir():
        raise ValueError(f"data set {name!r}: {where} is not a directory{'' if base in known else hint}")
    if base == "digits":
        raise ValueError(f"data set {name!r} is not in {where}; the embedded digits are of the kind Digits")
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
