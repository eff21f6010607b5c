"""Label accuracy: a classifier of real digits, which judges whether a sample shows the label it was drawn for."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from jaxdiff.checks import require
from jaxdiff.evaluation.manifold import flattened
from jaxdiff.extras import needed

Labels = Int[np.ndarray, " n"]

# Forty components are enough to tell digits apart. The number of components, the width of the kernel and the penalty
# were chosen on held-out images of MNIST's training split and by cross-validation on the 8x8 digits. The accuracy is
# flat around them.
_COMPONENTS = 40
_PENALTY = 10.0


def digit_classifier(images: ArrayLike, labels: ArrayLike) -> Callable[[ArrayLike], Labels]:
    """Fits a support vector machine to real images of digits.

    The machine classifies the first principal components of the images with the kernel

        exp(-gamma |u - v|^2),  gamma = 2 / (total variance of the components).

    Fitting is deterministic. Its time grows with the square of the number of images: on two cores, less than a second
    for the 1,797 digits and about half a minute for the 60,000 images of MNIST.

    Args:
      images: `[n, *event]`, values in [-1, 1].
      labels: `[n]` integers of at least two classes.

    Returns:
      A function from images `[m, *event]` on the same scale to labels `[m]`. Values may lie outside [-1, 1]. The
      function raises a ValueError for another event shape and for numbers that are not finite.

    Raises:
      ValueError: images outside [-1, 1], not finite or all equal, or labels that do not fit them.
      TypeError: labels that are not integers.
    """
    with needed("jaxdiff.evaluation.digit_classifier"):
        from sklearn import decomposition, svm  # slow to import

    real, known = flattened("images", images), np.asarray(labels)
    largest = float(np.max(np.abs(real)))
    require(largest <= 1 + 1e-6, "max |images|", largest, "values of at most 1")
    require(np.any(real != real[0]), "number of different images", 1, "integers of at least 2")
    require(np.issubdtype(known.dtype, np.integer), "labels.dtype", known.dtype, "integer types", TypeError)
    require(known.shape == (len(real),), "labels.shape", known.shape, f"({len(real)},), one label for each image")
    require(len(np.unique(known)) >= 2, "labels", np.unique(known), "integers of at least two classes")

    # This solver draws no random numbers.
    components = decomposition.PCA(min(_COMPONENTS, *real.shape), svd_solver="covariance_eigh")
    features = components.fit_transform(real)
    gamma = 2.0 / np.sum(np.var(features, axis=0))
    machine = svm.SVC(C=_PENALTY, kernel="rbf", gamma=gamma, cache_size=1000).fit(features, known)
    event = np.shape(images)[1:]

    def classify(samples: ArrayLike) -> Labels:
        allowed = f"[m, {', '.join(map(str, event))}]"
        require(np.shape(samples)[1:] == event, "samples.shape", np.shape(samples), allowed)
        return np.asarray(machine.predict(components.transform(flattened("samples", samples))))

    return classify
