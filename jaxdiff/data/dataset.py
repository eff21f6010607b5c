"""The interface of data sets as components."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdiff.checks import require
from jaxdiff.components import Component
from jaxdiff.data.fields import Field
from jaxdiff.data.sources import Examples


class Dataset(Component):
    """The base of data sets: components that say which examples there are, and how examples are shown."""

    home = "jaxdiff.data"

    def open(self) -> Examples:
        """Opens the set.

        Raises:
          ValueError: the set does not exist, or cannot be read. The error is one line.
        """
        raise NotImplementedError

    def show(
        self, x: Mapping[str, np.ndarray], fields: Mapping[str, Field], captions: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Files to look at or listen to, by name, such as "samples.png".

        The default shows each entry by `jaxdiff.media.show` and its kind. Masks, and named values of points such as
        elements, are shown with the points that they belong to. Labels and text are shown only with others.

        Args:
          x: entries `[n, *shape]`, by the names of their fields.
          fields: the fields; there may be more than entries.
          captions: one text for each example, or none.
        """
        from jaxdiff.media import show  # which imports the fonts of pictures

        for name in x:
            require(name in fields, "a name in x", name, f"names of fields: {', '.join(fields)}")
        known = {name: fields[name] for name in x}
        label = next((name for name, field in known.items() if field.kind == "label"), None)
        parts = {name: _parts(name, known) for name, field in known.items() if field.kind not in ("label", "text")}
        inside = {part for own in parts.values() for part in own.values()}
        shown = [name for name in parts if name not in inside]
        files: dict[str, bytes] = {}
        for name in shown:
            field, own = known[name], parts[name]
            names = known[own["features"]].names if "features" in own else field.names
            if label is not None and not names:
                names = known[label].names
            files |= show(
                np.asarray(x[name]),
                field.kind,
                names=names,
                captions=captions,
                rate=field.rate,
                labels=None if label is None else np.asarray(x[label]),
                stem="samples" if len(shown) == 1 else f"samples_{name}",
                **{argument: np.asarray(x[part]) for argument, part in own.items()},
            )
        return files


def _parts(name: str, fields: Mapping[str, Field]) -> dict[str, str]:
    """The fields that are shown with the field `name`: its "mask", and the "features" of points."""
    own = fields[name]
    found = {}
    for other, field in fields.items():
        if field.kind == "mask" and field.of == name:
            found["mask"] = other
        # Features have a row for each point.
        rows = own.kind == "points" and field.kind == "values" and len(field.shape) == 2
        if rows and field.names and field.shape[0] == own.shape[0]:
            found.setdefault("features", other)
    return found
