"""The facts about a data set that a network and a sampler need."""

import dataclasses
from typing import Any

import dacite


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The facts about a data set that a network and a sampler need. A run's `config.json` holds them as "data".

    Attributes:
      shape: the shape of one example.
      num_classes: the number of classes that the network is told of; 0 without labels.
      class_names: the names of the classes in the order of their labels; empty if they have no names.
      augmentation_features: the length of the vector that describes an augmentation; 0 without augmentation.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    augmentation_features: int = 0

    @classmethod
    def from_json(cls, values: Any) -> "DataSpec":
        """The facts that `config_json.to_json` wrote.

        Raises:
          ValueError: a field is missing, unknown, or of the wrong type.
        """
        try:
            return dacite.from_dict(cls, values, dacite.Config(cast=[tuple], strict=True))
        except (dacite.DaciteError, TypeError, AttributeError) as error:
            raise ValueError(f"data: {error}") from error
