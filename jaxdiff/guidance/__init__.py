"""Guidance: functions from denoisers to a denoiser, and the components that name them in a preset.

- `guidance`: the interface of the components
- `classifier_free`: extrapolation from an unconditional to a conditional estimate
"""

from jaxdiff.guidance.classifier_free import ClassifierFree, classifier_free
from jaxdiff.guidance.guidance import Asked, Guidance

__all__ = ["Asked", "ClassifierFree", "Guidance", "classifier_free"]
