"""A judge of labelled samples: does a classifier of real images see what was asked for?"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

Labels = Int[np.ndarray, " n"]

# Forty directions hold what tells digits apart. These, the kernel's width and the penalty were chosen on images held
# out of MNIST's training split and by cross-validation on the 8x8 digits, where anything near them does as well.
_COMPONENTS = 40
_PENALTY = 10.0


def digit_classifier(images: ArrayLike, labels: ArrayLike) -> Callable[[ArrayLike], Labels]:
    """Fits a support vector machine to real images of digits.

    The images' first principal components go into a machine with the kernel exp(-gamma |u - v|^2), gamma = 2 / (the
    components' total variance). Fitting is deterministic. Its time grows with the square of the number of images: less
    than a second for the 1,797 digits, about half a minute for the 60,000 of MNIST, on two cores.

    Args:
        images: `[n, *event]`, values in [-1, 1].
        labels: `[n]` integers of at least two classes.

    Returns:
        A function from images `[m, *event]` on the same scale, a little outside [-1, 1] allowed, to labels `[m]`. It
        raises ValueError for another event shape and for numbers that are not finite.

    Raises:
        ValueError: for images outside [-1, 1], not finite or all alike, or labels that do not fit them.
        TypeError: for labels that are not integers.
        ImportError: if scikit-learn is not installed.
    """
    svm, decomposition = _scikit_learn()
    real, known = _rows("images", images), np.asarray(labels)
    if np.max(np.abs(real)) > 1 + 1e-6:
        raise ValueError(f"images must have values in [-1, 1], got values from {np.min(real)} to {np.max(real)}")
    if np.all(real == real[0]):
        raise ValueError("images are all alike: nothing can be learned from them")
    if not np.issubdtype(known.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {known.dtype}")
    if known.shape != (len(real),):
        raise ValueError(f"labels must have shape ({len(real)},), one for each image, got {known.shape}")
    if len(np.unique(known)) < 2:
        raise ValueError(f"labels must name at least two classes, got only {known[0]}")

    # This solver draws no random numbers.
    components = decomposition.PCA(min(_COMPONENTS, *real.shape), svd_solver="covariance_eigh")
    features = components.fit_transform(real)
    gamma = 2.0 / np.sum(np.var(features, axis=0))
    machine = svm.SVC(C=_PENALTY, kernel="rbf", gamma=gamma, cache_size=1000).fit(features, known)
    event = np.shape(images)[1:]

    def classify(samples: ArrayLike) -> Labels:
        if np.shape(samples)[1:] != event:
            raise ValueError(f"samples must have shape [m, {', '.join(map(str, event))}], got {np.shape(samples)}")
        return np.asarray(machine.predict(components.transform(_rows("samples", samples))))

    return classify


def _rows(name: str, images: ArrayLike) -> Float[np.ndarray, "n pixels"]:
    array = np.asarray(images)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(f"{name} must have at least one image in an array [n, *event], got shape {array.shape}")
    array = array.reshape(len(array), -1).astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must hold finite numbers only, got inf or nan")
    return array


def _scikit_learn() -> tuple[Any, Any]:
    """scikit-learn's two modules, imported where they are needed so that the rest of the package does without."""
    try:
        from sklearn import decomposition, svm
    except ImportError as error:
        raise ImportError(
            "digit_classifier needs scikit-learn, which is not installed: python -m pip install scikit-learn"
        ) from error
    return svm, decomposition
