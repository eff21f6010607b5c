"""A convolution in NumPy, as an oracle."""

import numpy as np


def convolved(x, kernel, bias=0.0):
    """A convolution of `[height, width, in]` with `[window, window, in, out]`, with zeros around."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, kernel, optimize=True) + bias
