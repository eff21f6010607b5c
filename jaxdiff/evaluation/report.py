"""What labelled samples are worth, in four figures."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxdiff.evaluation.manifold import copies, precision_recall
from jaxdiff.evaluation.recognition import digit_classifier


@dataclasses.dataclass(frozen=True)
class Report:
    """Attributes:
    classifier: how much of held-out real data the judge gets right.
    label_accuracy: how many of the samples it takes for what was asked for.
    precision, recall: of the samples among the training images, k-nearest neighbours with k = 5.
    memorised: how many samples are closer to a training image than half the median distance between neighbours among them.
    """

    classifier: float
    label_accuracy: float
    precision: float
    recall: float
    memorised: float


def report(
    samples: ArrayLike,
    asked: ArrayLike,
    train: tuple[ArrayLike, ArrayLike],
    held_out: tuple[ArrayLike, ArrayLike],
    *,
    reference: int = 5000,
) -> Report:
    """Judges samples by a classifier fitted to real images, by k-nearest-neighbour manifolds, and as copies.

    Args:
      samples: `[n, *event]`, any range; clipped to [-1, 1].
      asked: `[n]`, the labels they were drawn for.
      train: images `[m, *event]` in [-1, 1] and labels `[m]` that the model was trained on.
      held_out: images and labels that it was not.
      reference: how many training images precision and recall are measured against, at most.
    """
    images = np.clip(np.asarray(samples, np.float32), -1, 1)
    real, labels = (np.asarray(array) for array in train)
    classify = digit_classifier(real, labels)
    near = real[:: max(1, len(real) // reference)]
    manifold = precision_recall(near, images, k=5)
    return Report(
        classifier=float(np.mean(classify(held_out[0]) == np.asarray(held_out[1]))),
        label_accuracy=float(np.mean(classify(images) == np.asarray(asked))),
        precision=manifold.precision,
        recall=manifold.recall,
        memorised=copies(images, real, real),
    )
