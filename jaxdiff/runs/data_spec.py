"""The facts about a data set that a network and a sampler need."""

import dataclasses
from typing import Any

import dacite


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The facts about a data set that a network and a sampler need. A run's `config.json` holds them.

    Attributes:
      shape: of one example.
      num_classes: of the labels that the network is told; 0 for none.
      class_names: in the order of the labels; empty where they have no names.
      augmentation_features: numbers that tell the network of an augmentation; 0 for none.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    augmentation_features: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can express them."""
        return {**dataclasses.asdict(self), "shape": list(self.shape), "class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, values: Any) -> "DataSpec":
        """The specification that `to_json` wrote.

        Raises:
          ValueError: a field is missing, unknown, or of the wrong type.
        """
        try:
            return dacite.from_dict(cls, values, dacite.Config(cast=[tuple], strict=True))
        except (dacite.DaciteError, TypeError, AttributeError) as error:
            raise ValueError(f"data: {error}") from error
