"""Guidance: functions from Denoiser to Denoiser that change what is sampled.

- `classifier_free`: with and without the condition, extrapolated
"""

from jaxdiff.guidance.classifier_free import classifier_free

__all__ = ["classifier_free"]
