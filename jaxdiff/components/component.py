"""The base of components, and the values of settings that Python has no type for."""

from typing import Annotated, Any, ClassVar

# The type of a setting that is the path of another run or of a file of weights, a part of this run. A component hands
# it to the function `open` that its `load` is given.
IS_PART = "part"
Part = Annotated[str, IS_PART]


class Component:
    """The base of everything that a run is made of: frozen dataclasses, and Linen modules.

    A field is a setting unless its metadata say `setting=False`. A setting is hashable.

    Attributes:
      home: the module whose `__all__` names the kinds of this component.
      free: the settings that may change when a run is resumed, since they affect its result by rounding only.
    """

    home: ClassVar[str] = ""
    free: ClassVar[tuple[str, ...]] = ()


class Table(dict[str, Any]):
    """A mapping of names to settings. It is hashable, and must not be changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def python_value(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's numbers and lists; any other value as it is."""
    return value.tolist() if hasattr(value, "tolist") else value
