"""Conditions: what a network is told beside time.

- `condition`: the interface
- `label`: classes; `vector`: numbers; `text`: captions; `planes`: pictures
"""

from jaxdiff.conditions.condition import Condition
from jaxdiff.conditions.label import Label
from jaxdiff.conditions.planes import Planes
from jaxdiff.conditions.text import Text
from jaxdiff.conditions.vector import Vector

__all__ = ["Condition", "Label", "Planes", "Text", "Vector"]
