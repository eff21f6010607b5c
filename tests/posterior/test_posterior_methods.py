"""One step of each method against an independent reading of its paper in NumPy, and exactness where it is claimed."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES

import jaxdiff as jd
from jaxdiff import denoisers, posterior, solvers
from jaxdiff.posterior import operators

KEY = jax.random.key(0)
D, M, BATCH = 5, 3, 2
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(M, D))
OBSERVATION, POINT = RNG.normal(size=(BATCH, M)), RNG.normal(size=(BATCH, D))
# A denoiser that is not linear and whose derivative is not symmetric.
WEIGHTS = RNG.normal(size=(D, D)) / 2
PROCESS = PROCESSES["vp_linear"]
T, S = 0.6, 0.45
ALPHA, SIGMA, ALPHA_S, SIGMA_S = (
    float(f(t)) for t in (np.float64(T), np.float64(S)) for f in (PROCESS.alpha, PROCESS.sigma)
)
STD = 0.3


def _times_matrix(matrix, x):
    return jnp.matmul(x, matrix.T, precision="highest")


def _operator():
    return operators.linear(_times_matrix, (D,), jnp.asarray(MATRIX))


def _tanh(x, t):
    return jnp.tanh(x @ WEIGHTS)


def _prior():
    return denoisers.from_function(PROCESS, _tanh)


# The same in NumPy: x0, eps, and the derivative of x0 by x.
X0 = np.tanh(POINT @ WEIGHTS)
EPS = (POINT - ALPHA * X0) / SIGMA
JACOBIANS = (1 - X0**2)[:, :, None] * WEIGHTS.T
RESIDUAL = OBSERVATION - X0 @ MATRIX.T
estimate = jax.jit(lambda denoiser, x, t: denoiser(x, t))
sample = jax.jit(jd.sample)


def _check(denoiser, x0):
    """The estimate of the posterior has this x0, and makes x with its eps."""
    got = estimate(denoiser, jnp.asarray(POINT), T)
    np.testing.assert_allclose(got.x0, x0, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(got.eps, (POINT - ALPHA * x0) / SIGMA, rtol=1e-8, atol=1e-10)


def _each(function):
    return np.stack([function(j, r) for j, r in zip(JACOBIANS, RESIDUAL, strict=True)])


def test_pigdm(x64):
    """With the paper's r^2 for data of unit variance, in its form of variance-preserving processes."""
    square = SIGMA**2
    inverse = np.linalg.inv(square * MATRIX @ MATRIX.T + STD**2 * np.eye(M))
    _check(
        posterior.pigdm(_prior(), _operator(), OBSERVATION, STD),
        X0 + SIGMA**2 / ALPHA * _each(lambda j, r: j.T @ MATRIX.T @ inverse @ r),
    )


def test_pigdm_without_noise_is_the_published_step(x64):
    """`g = J^T (A^+ y - A^+ A x0)` with the factor `alpha_s alpha_t` of the next state, in DDIM's step of x0."""
    g = _each(lambda j, r: j.T @ np.linalg.pinv(MATRIX) @ r)
    _check(posterior.pigdm(_prior(), _operator(), OBSERVATION, 0.0), X0 + g / ALPHA)


def test_tmpd(x64):
    def change(j, r):
        covariance = SIGMA**2 / ALPHA * j.T
        sums = MATRIX @ covariance @ MATRIX.T @ np.ones(M)
        return covariance @ MATRIX.T @ (r / (np.maximum(sums, 0) + STD**2))

    _check(posterior.tmpd(_prior(), _operator(), OBSERVATION, STD), X0 + _each(change))


def test_dps_is_the_published_ancestral_step(x64):
    """`x_s = ancestral(x_t) - zeta grad |y - A x0|`, with a norm per example, for a batch of two."""
    grid, zeta = np.array([0.9, T, S, 0.2]), np.array([0.4, 0.7])
    made = posterior.dps(_prior(), _operator(), OBSERVATION, times=grid, zeta=zeta)
    got = sample(KEY, made, jnp.asarray(POINT), solvers.ddpm(PROCESS, grid[1:3]))
    z = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, 1), 0), POINT.shape))
    gradient = _each(lambda j, r: -j.T @ MATRIX.T @ r / np.linalg.norm(r))
    # DDPM's coefficients, by the step's own alpha and beta.
    alpha_step = (ALPHA / ALPHA_S) ** 2
    beta = 1 - alpha_step
    mean = ALPHA_S * beta / SIGMA**2 * X0 + np.sqrt(alpha_step) * SIGMA_S**2 / SIGMA**2 * POINT
    want = mean + np.sqrt(beta) * SIGMA_S / SIGMA * z - zeta[:, None] * gradient
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_diffpir(x64):
    """The proximal step as a minimum, and the renoising with the noise of the new estimate."""
    strength, zeta = 0.8, 0.3
    rho = strength * STD**2 / (SIGMA / ALPHA) ** 2
    x0 = np.linalg.solve(MATRIX.T @ MATRIX + rho * np.eye(D), (OBSERVATION @ MATRIX + rho * X0).T).T
    made = posterior.diffpir(_prior(), _operator(), OBSERVATION, STD, strength=strength)
    _check(made, x0)
    got = sample(KEY, made, jnp.asarray(POINT), solvers.renoise(PROCESS, np.array([T, S]), eta=zeta**0.5))
    z = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, 1), 0), POINT.shape))
    noise = np.sqrt(1 - zeta) * (POINT - ALPHA * x0) / SIGMA + np.sqrt(zeta) * z
    np.testing.assert_allclose(got, ALPHA_S * x0 + SIGMA_S * noise, rtol=1e-8)
    # The closed form of a mask: (m y + rho x0)/(m + rho).
    mask = np.array([1.0, 0, 1, 0, 0])
    y = RNG.normal(size=(1, D))
    masked = posterior.diffpir(_prior(), operators.mask(mask), y, STD, strength=strength)
    _check(masked, (mask * y + rho * X0) / (mask + rho))


@pytest.mark.parametrize("name", ["ddnm", "ddrm_jpeg"])
def test_ddnm_and_ddrm_jpeg(name, x64):
    """The range of the observation is replaced, all of it or 0.4 of it; the noise is the denoiser's own."""
    made, weight = {"ddnm": (posterior.ddnm, 1.0), "ddrm_jpeg": (posterior.ddrm_jpeg, 0.4)}[name]
    denoiser, eta = made(_prior(), _operator(), OBSERVATION), {"ddnm": 0.85, "ddrm_jpeg": 1.0}[name]
    pinv = np.linalg.pinv(MATRIX)
    whole = OBSERVATION @ pinv.T + X0 @ (np.eye(D) - pinv @ MATRIX).T
    x0 = weight * whole + (1 - weight) * X0
    got = sample(KEY, denoiser, jnp.asarray(POINT), solvers.renoise(PROCESS, np.array([T, S]), eta=eta))
    z = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, 1), 0), POINT.shape))
    np.testing.assert_allclose(got, ALPHA_S * x0 + SIGMA_S * (np.sqrt(1 - eta**2) * EPS + eta * z), rtol=1e-8)
    with pytest.raises(ValueError, match="allowed are denoisers with x = alpha x0"):
        jd.sample(KEY, denoiser, jnp.asarray(POINT), solvers.ddim(PROCESS, np.array([T, S])))
    with pytest.raises(ValueError, match="allowed are denoisers with x = alpha x0"):
        posterior.mmps(denoiser, _operator(), OBSERVATION, STD)


def test_a_picture_that_has_the_observed_file_stays():
    """For JPEG, whose pseudo-inverse is the decoded picture."""
    picture = jnp.asarray(RNG.uniform(-1, 1, size=(1, 16, 16, 1)), jnp.float32)
    prior = denoisers.from_function(PROCESS, lambda x, t: jnp.broadcast_to(picture, x.shape))
    file = operators.jpeg(10)
    for observation, stays in ((file(picture), True), (picture, False)):
        got = estimate(posterior.ddnm(prior, file, observation), jnp.zeros_like(picture), T).x0
        assert (np.abs(got - picture).max() < 1e-6) == stays


# Singular values of each kind: unseen, and with more and with less noise than the process.
VALUES = np.array([3.0, 0.075, 0.02])
LEFT, _, RIGHT = np.linalg.svd(MATRIX)
EMBEDDED = LEFT @ np.concatenate([np.diag(VALUES), np.zeros((M, D - M))], axis=1) @ RIGHT


def _start(observation, std, noise):
    """The published start of DDRM, in units of x/alpha."""
    top = SIGMA / ALPHA
    ybar = observation @ LEFT / VALUES
    z = noise @ RIGHT.T / SIGMA
    x = top * z
    for i, value in enumerate(VALUES):
        if top > std / value:
            x[:, i] = ybar[:, i] + np.sqrt(top**2 - (std / value) ** 2) * z[:, i]
    return ALPHA * x @ RIGHT


def _ddrm(x, observation, std, z, eta, eta_b):
    x0 = np.tanh(x @ WEIGHTS)
    eps = (x - ALPHA * x0) / SIGMA
    theta, e, z, ybar = x0 @ RIGHT.T, eps @ RIGHT.T, z @ RIGHT.T, observation @ LEFT / VALUES
    level = SIGMA_S / ALPHA_S
    out = theta + np.sqrt(1 - eta**2) * level * e + eta * level * z
    for i, value in enumerate(VALUES):
        own = std / value
        if level < own:
            out[:, i] = (
                theta[:, i] + np.sqrt(1 - eta**2) * level * (ybar[:, i] - theta[:, i]) / own + eta * level * z[:, i]
            )
        else:
            out[:, i] = (1 - eta_b) * theta[:, i] + eta_b * ybar[:, i] + np.sqrt(level**2 - eta_b**2 * own**2) * z[:, i]
    return ALPHA_S * out @ RIGHT


def _ddnm_plus(x, observation, std, z):
    x0 = np.tanh(x @ WEIGHTS)
    alpha_step = (ALPHA / ALPHA_S) ** 2
    a, kept = ALPHA_S * (1 - alpha_step) / SIGMA**2, np.sqrt(alpha_step) * SIGMA_S**2 / SIGMA**2
    fresh = np.sqrt(1 - alpha_step) * SIGMA_S / SIGMA
    theta, z, ybar = x0 @ RIGHT.T, z @ RIGHT.T, observation @ LEFT / VALUES
    out, noise = theta.copy(), fresh * z
    for i, value in enumerate(VALUES):
        share = min(1.0, fresh * value / (a * std)) if std else 1.0
        out[:, i] = theta[:, i] + share * (ybar[:, i] - theta[:, i])
        noise[:, i] = np.sqrt(fresh**2 - (a * std / value) ** 2) * z[:, i] if share == 1 else 0
    return kept * x + (a * out + noise) @ RIGHT


class _Dense(operators.Spectral):
    """A dense matrix, with NumPy's decomposition."""

    def vt(self, x):
        return x @ RIGHT.T

    def v(self, z):
        return z @ RIGHT

    def ut(self, y):
        return jnp.pad(y @ LEFT, ((0, 0), (0, D - M)))

    def u(self, z):
        return z[:, :M] @ LEFT.T

    def singular_values(self, z):
        return jnp.asarray(np.pad(VALUES, (0, D - M)))


jax.tree_util.register_pytree_node(_Dense, lambda node: ((), None), lambda *_: _Dense())


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_ddrm_and_ddnm_plus(std, x64):
    """With singular values that meet each of the rules. A seen number of no noise is kept by the last step."""
    noise = SIGMA * POINT
    z = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, 1), 0), POINT.shape))
    arguments = (_Dense(), OBSERVATION, std, np.array([T, S]))
    got = posterior.ddrm(KEY, _prior(), jnp.asarray(noise), *arguments, eta=0.8, eta_b=0.9)
    want = _ddrm(_start(OBSERVATION, std, noise), OBSERVATION, std, z, 0.8, 0.9)
    np.testing.assert_allclose(got, want, rtol=1e-8)
    got = posterior.ddnm_plus(KEY, _prior(), jnp.asarray(noise), *arguments)
    np.testing.assert_allclose(got, _ddnm_plus(noise, OBSERVATION, std, z), rtol=1e-8)
    levels = SIGMA_S / ALPHA_S, SIGMA / ALPHA
    assert std == 0 or std / VALUES[0] < levels[0] < std / VALUES[1] < levels[1] < std / VALUES[2]


def test_isotropic_data_are_exact_for_pigdm_and_diagonal_ones_for_tmpd(x64):
    """The posterior of a Gaussian prior: of any observation, and of an observation of some coordinates."""
    times = np.array([0.2, 0.8])
    x = jnp.asarray(POINT)
    width, mean = 0.7, RNG.normal(size=D)
    gain = width**2 * MATRIX.T @ np.linalg.inv(width**2 * MATRIX @ MATRIX.T + STD**2 * np.eye(M))
    covariance = width**2 * (np.eye(D) - gain @ MATRIX)
    for row, t in enumerate(times):
        after = mean + gain @ (OBSERVATION[row] - MATRIX @ mean)
        exact = denoisers.gaussian_mixture(PROCESS, [1.0], after[None], (covariance + covariance.T)[None] / 2)
        made = posterior.pigdm(
            denoisers.gaussian(PROCESS, mean, width), _operator(), OBSERVATION[row : row + 1], STD, data_std=width
        )
        chex.assert_trees_all_close(estimate(made, x, t), estimate(exact, x, t), rtol=1e-9)
    widths, seen = np.linspace(0.2, 1.5, D), np.array([1, 0, 1, 1, 0])
    y = RNG.normal(size=(1, D))
    precision = 1 / widths**2 + seen / STD**2
    exact = denoisers.gaussian(PROCESS, (mean / widths**2 + seen * y[0] / STD**2) / precision, precision**-0.5)
    made = posterior.tmpd(denoisers.gaussian(PROCESS, mean, widths), operators.mask(seen), y, STD)
    chex.assert_trees_all_close(estimate(made, x, times), estimate(exact, x, times), rtol=1e-9)


def test_the_clean_end_in_float32_and_pictures_without_noise():
    """Nothing is infinite or NaN at any time of any method, also without noise; DDRM keeps what is seen."""
    process = PROCESSES["flow"]
    x = jnp.asarray(RNG.normal(size=(2, 4, 4, 1)), jnp.float32)
    prior, box = denoisers.gaussian(process, 0.2, 0.5), operators.box(2)
    y = box(0.2 + 0.5 * x)
    tableau = solvers.renoise(process, jd.grids.uniform_time(process, 4))
    for std in (0.0, 0.1):
        for method in (posterior.mmps, posterior.pigdm, posterior.tmpd, posterior.diffpir):
            found = sample(KEY, method(prior, box, y, std), x, tableau)
            assert np.isfinite(found).all()
        for sampler in (posterior.ddrm, posterior.ddnm_plus):
            found = sampler(KEY, prior, x, box, y, std, jd.grids.uniform_time(process, 4))
            assert np.isfinite(found).all()
            assert std or np.abs(box(found) - y).max() < 1e-5


def test_numbers_of_ddrm_are_leaves_and_keys_are_those_of_the_examples():
    grid, x = np.linspace(0.9, 0.1, 4), jnp.asarray(RNG.normal(size=(3, D)), jnp.float32)
    chex.clear_trace_counter()
    traces = []

    def counted(x, t):
        traces.append(t)
        return jnp.tanh(x)

    prior, y = denoisers.from_function(PROCESS, counted), np.ones((1, D), np.float32)
    run = functools.partial(posterior.ddrm, denoiser=prior)
    first = run(KEY, x=x, operator=operators.mask(np.eye(D)[0]), observation=y, std=0.1, times=grid)
    count = len(traces)
    assert count
    other = run(KEY, x=x, operator=operators.mask(np.eye(D)[1]), observation=2 * y, std=0.4, times=grid**2, eta=0.3)
    assert len(traces) == count
    assert np.abs(first - other).max() > 0.1
    keys = jax.random.split(KEY, 3)
    given = {"operator": operators.mask(np.eye(D)[0]), "observation": y, "std": 0.1, "times": grid}
    np.testing.assert_allclose(run(keys, x=x, **given)[1:2], run(keys[1:2], x=x[1:2], **given), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: posterior.pigdm(p, jnp.tanh, OBSERVATION, 0.1), TypeError, "operator = .*allowed are operators with a pseudo_inverse"),
        (lambda p: posterior.pigdm(p, _operator(), OBSERVATION, 0.1, data_std=0.0), ValueError, "data_std = 0.0"),
        (lambda p: posterior.diffpir(p, _operator(), OBSERVATION, np.nan), ValueError, "std = nan"),
        (lambda p: posterior.dps(p, _operator(), OBSERVATION, times=[0.1, 0.5]), ValueError, "times = "),
        (lambda p: posterior.ddrm_jpeg(p, _operator(), OBSERVATION, eta_b=1.5), ValueError, "eta_b = 1.5"),
        (lambda p: posterior.ddrm(KEY, p, POINT, _operator(), OBSERVATION, 0.1, [0.5, 0.1]), TypeError, "operators with a singular value decomposition"),
        (lambda p: posterior.ddrm(KEY, p, POINT, operators.identity(), POINT, 0.1, [0.5, 0.1], eta=-1), ValueError, "eta = -1"),
        (lambda p: posterior.ddrm(KEY, p, POINT, operators.identity(), OBSERVATION, 0.1, [0.5, 0.1]), ValueError,
         r"observation\.shape = \(2, 3\); allowed are \(2, 5\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(_prior())
