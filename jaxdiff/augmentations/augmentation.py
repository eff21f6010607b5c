"""The interface of augmentations as components."""

from collections.abc import Collection, Mapping

from jaxtyping import Array, Key

from jaxdiff.checks import did_you_mean, message, require
from jaxdiff.components import Component
from jaxdiff.data.fields import Field


class Augmentation(Component):
    """The base of augmentations: components that change a batch inside the training step, or add entries to it.

    The result for an example depends on its own key alone, and neither on the other examples of the batch nor on the
    devices that hold them. Pictures arrive as bytes or as floats. An augmentation that needs floats converts the bytes
    itself, and leaves floats.
    """

    home = "jaxdiff.augmentations"
    field: str  # a setting of every kind that reads one field

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the fields that the augmentation reads. They may be fields that another augmentation adds."""
        return (self.field,)

    def __call__(self, keys: Key[Array, " batch"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """The batch after the augmentation.

        Args:
          keys: one random key per example. Every augmentation of a run is given keys of its own.
          batch: the entries of the batch by name, `[batch, *shape]`.
        """
        raise NotImplementedError

    def fields(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        """The fields of the data after the augmentation.

        Args:
          fields: the fields before it, by name.

        Raises:
          ValueError: the augmentation does not fit the fields.
        """
        raise NotImplementedError


def find(fields: Mapping[str, Field], name: str, kinds: Collection[str]) -> Field:
    """The field `name`, whose kind has to be one of `kinds`.

    Raises:
      ValueError: there is no such field, or its kind is another. The error lists the fields of these kinds.
    """
    fitting = [other for other, field in fields.items() if field.kind in kinds]
    if name not in fitting:
        shown = ", ".join(map(repr, fitting)) or "none"
        allowed = f"fields of kind {' or '.join(kinds)}, which here are {shown}"
        raise ValueError(message("field", name, allowed) + did_you_mean(name, fitting))
    return fields[name]


def check_new(fields: Mapping[str, Field], name: str) -> None:
    """Raises a ValueError if `name`, the setting `to`, is the name of a field already."""
    require(name and name not in fields, "to", name, f"names other than those of the fields, {', '.join(fields)}")
