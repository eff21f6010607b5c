"""The exact mean and variance of a tableau's samples of Gaussian data, without sampling.

For data from N(m, s^2) the denoiser is affine in x. The state of a sampler is then a Gaussian vector, and linear
algebra gives its mean and covariance after each row.
"""

import numpy as np


def of_gaussian(tableau, mean, std):
    """Mean and variance of the samples from initial noise with the exact marginal at `tableau.times[0]`."""
    process, r, k = tableau.process, tableau.points, tableau.history_length
    begin = process.alpha(tableau.times[0])
    variance = begin**2 * std**2 + process.sigma(tableau.times[0]) ** 2
    mu, cov = np.full(r + k, begin * mean), np.full((r + k, r + k), variance)
    for i in range(len(tableau) + 1):
        step = np.eye(r + k)
        step[:r] = tableau.state[i]
        mu, cov = step @ mu, step @ cov @ step.T
        if tableau.noise.shape[-1]:
            cov[:r, :r] += tableau.noise[i] @ tableau.noise[i].T
        if i < len(tableau) and k:
            alpha, sigma = process.alpha(tableau.times[i]), process.sigma(tableau.times[i])
            v = alpha**2 * std**2 + sigma**2
            p, q = tableau.history_target[i]
            # x0 = m + alpha s^2/v (x - alpha m), eps = sigma/v (x - alpha m)
            gain = (p * alpha * std**2 + q * sigma) / v
            shift = np.zeros((r + k, r + k))
            shift[:r, :r] = np.eye(r)
            shift[r, r - 1] = gain
            shift[r + 1 :, r:-1] = np.eye(k - 1)
            mu, cov = shift @ mu, shift @ cov @ shift.T
            mu[r] += p * mean - gain * alpha * mean
    return mu[r - 1], cov[r - 1, r - 1]
