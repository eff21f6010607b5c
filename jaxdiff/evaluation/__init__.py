"""Measures of the quality of samples.

| file | holds |
|---|---|
| `manifold.py` | improved precision and recall, nearest-neighbour distances, the fraction of memorised samples |
| `label_accuracy.py` | a classifier of real digits, which judges labelled samples |
| `report.py` | all measures in one report |
"""

from jaxdiff.evaluation.label_accuracy import digit_classifier
from jaxdiff.evaluation.manifold import (
    PrecisionRecall,
    memorised,
    nearest_distances,
    neighbour_radii,
    precision_recall,
)
from jaxdiff.evaluation.report import Report, report

__all__ = [
    "PrecisionRecall",
    "Report",
    "digit_classifier",
    "memorised",
    "nearest_distances",
    "neighbour_radii",
    "precision_recall",
    "report",
]
