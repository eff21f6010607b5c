"""TFDS sets as components."""

import os
from dataclasses import dataclass, field

from jaxdiff.checks import require
from jaxdiff.components import Table
from jaxdiff.data.dataset import Dataset
from jaxdiff.data.features import Feature
from jaxdiff.data.sources import Examples
from jaxdiff.extras import needed


@dataclass(frozen=True)
class Tfds(Dataset):
    """A set that TFDS has prepared on disk, read without TensorFlow.

    Any version on disk can be opened, even if the installed TFDS cannot make it. A field has the name of its feature.

        Tfds("spoken_digits", fields={"audio": Waveform(8000, rate=8000), "label": Label()})

    Attributes:
      name: `name`, `name/config`, `name:1.2.3` or `name/config:1.2.3`. Without a version it is the newest on disk.
      split: any TFDS split expression, such as `train`, `train[:80%]` or `train+test`.
      data_dir: the directory of TFDS; None is TFDS's default (`$TFDS_DATA_DIR`, or `~/tensorflow_datasets`).
      fields: the features that are read, and how. Empty for all pictures, class labels and texts of the set.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    fields: dict[str, Feature] = field(default_factory=Table)

    def __post_init__(self) -> None:
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", os.fspath(self.data_dir))
        object.__setattr__(self, "fields", Table(self.fields))
        for name, feature in self.fields.items():
            require(
                isinstance(feature, Feature), f"fields.{name}", feature, "features of jaxdiff.data.features", TypeError
            )

    def open(self) -> Examples:
        """Opens the set.

        Raises:
          ValueError: no such directory, set, split or feature; a set that is not stored as ArrayRecord; a feature that
            does not fit; broken files. The error is one line.
        """
        with needed("jaxdiff.data.Tfds"):
            from jaxdiff.data import tfds_reading  # which imports tensorflow_datasets, and takes a second

        return tfds_reading.open_set(self.name, self.split, self.data_dir, self.fields)
