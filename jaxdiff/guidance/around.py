"""The base of the components that change another rule."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxdiff.guidance.classifier_free import ClassifierFree
from jaxdiff.guidance.guidance import Guidance


@dataclasses.dataclass(frozen=True)
class Around(Guidance):
    """The base of rules around another rule.

    Attributes:
      rule: the guidance inside.
    """

    rule: Guidance = ClassifierFree()

    @property
    def consistent(self) -> bool:
        return self.rule.consistent

    def load(self, open: Callable[[str], Any]) -> Any:
        return self.rule.load(open)

    def unasked(self) -> Guidance | None:
        rule = self.rule.unasked()
        return None if rule is None else dataclasses.replace(self, rule=rule)
