"""How good samples are, measured.

| file | holds |
|---|---|
| `manifold.py` | improved precision and recall, nearest-neighbour distances, the fraction of copies |
| `recognition.py` | a classifier of real digits, to judge labelled samples |
| `report.py` | both, as one report |
"""

from jaxdiff.evaluation.manifold import (
    PrecisionRecall,
    copies,
    nearest_distances,
    neighbour_radii,
    precision_recall,
)
from jaxdiff.evaluation.recognition import digit_classifier
from jaxdiff.evaluation.report import Report, report

__all__ = [
    "PrecisionRecall",
    "Report",
    "copies",
    "digit_classifier",
    "nearest_distances",
    "neighbour_radii",
    "precision_recall",
    "report",
]
