"""Measures of the quality of samples.

| file | holds |
|---|---|
| `manifold.py` | improved precision and recall, nearest-neighbour distances, the fraction of memorised samples |
| `kernel_distance.py` | the kernel distance (KID) of two sets of features, without bias, and its standard error |
| `label_accuracy.py` | a classifier of real digits, which judges labelled samples |
| `report.py` | all measures in one report |
"""

from jaxdiff.evaluation.kernel_distance import KernelDistance, kernel_distance
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
    "KernelDistance",
    "PrecisionRecall",
    "Report",
    "digit_classifier",
    "kernel_distance",
    "memorised",
    "nearest_distances",
    "neighbour_radii",
    "precision_recall",
    "report",
]
