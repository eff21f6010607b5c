"""Guidance: functions from denoiser to denoiser that change the distribution of the samples.

- `classifier_free`: extrapolation from an unconditional denoiser to a conditional one
"""

from jaxdiff.guidance.classifier_free import classifier_free

__all__ = ["classifier_free"]
