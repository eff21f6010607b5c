"""The facts about a run's data and parts, which its `config.json` holds beside the settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdiff.components import Table
from jaxdiff.data.fields import Field


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts about the data and the parts of a run.

    Attributes:
      fields: the fields of the data, before augmentations.
      identity: the checksum of the data; empty if there are no data.
      parts: the checksum of each part, by the path of its setting.
    """

    fields: Table
    identity: str = ""
    parts: Table = dataclasses.field(default_factory=Table)

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        fields = {name: field.to_json() for name, field in self.fields.items()}
        return {"fields": fields, "identity": self.identity, "parts": dict(self.parts)}

    @classmethod
    def from_json(cls, values: Any) -> "Facts":
        """The facts that `to_json` wrote.

        Raises:
          ValueError: an entry is missing, unknown, or of the wrong type.
        """
        good = isinstance(values, Mapping) and set(values) == {"fields", "identity", "parts"}
        if not good or not isinstance(values["fields"], Mapping) or not isinstance(values["parts"], Mapping):
            raise ValueError("data: has not exactly the entries 'fields', 'identity' and 'parts'")
        fields = Table({name: Field.from_json(field) for name, field in values["fields"].items()})
        return cls(fields, str(values["identity"]), Table(values["parts"]))
