"""The quality of labelled samples in one report."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxdiff.evaluation.label_accuracy import digit_classifier
from jaxdiff.evaluation.manifold import memorised, precision_recall


@dataclasses.dataclass(frozen=True)
class Report:
    """The quality of labelled samples. All figures are fractions in [0, 1].

    Attributes:
      classifier: accuracy of the classifier on held-out real images.
      label_accuracy: fraction of the samples that the classifier gives the label they were drawn for.
      precision: fraction of the samples in the manifold of the training images, with k = 5 nearest neighbours.
      recall: fraction of the training images in the manifold of the samples, with k = 5.
      memorised: fraction of the samples that are near-copies of training images; see `manifold.memorised`.
    """

    classifier: float
    label_accuracy: float
    precision: float
    recall: float
    memorised: float


def report(
    samples: ArrayLike,
    labels: ArrayLike,
    train: tuple[ArrayLike, ArrayLike],
    held_out: tuple[ArrayLike, ArrayLike],
    *,
    reference: int = 5000,
) -> Report:
    """Measures labelled samples by a classifier of real images and by nearest neighbours.

    Args:
      samples: `[n, *event]`, any range; clipped to [-1, 1].
      labels: `[n]`, the labels that the samples were drawn for.
      train: images `[m, *event]` in [-1, 1] and labels `[m]` that the model was trained on.
      held_out: images and labels that the model was not trained on.
      reference: about how many training images precision and recall use. They are evenly spaced in the set.
    """
    images = np.clip(np.asarray(samples, np.float32), -1, 1)
    real, real_labels = (np.asarray(array) for array in train)
    classify = digit_classifier(real, real_labels)
    manifold = precision_recall(real[:: max(1, len(real) // reference)], images, k=5)
    return Report(
        classifier=float(np.mean(classify(held_out[0]) == np.asarray(held_out[1]))),
        label_accuracy=float(np.mean(classify(images) == np.asarray(labels))),
        precision=manifold.precision,
        recall=manifold.recall,
        memorised=memorised(images, real, real),
    )
