"""The denoising objective and its weightings against closed forms.

A mean over random draws must lie within 4 standard errors, which are computed beside it. The seeds are fixed.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import NO_SIGNAL_AT_END, PROCESSES, inner_times
from scipy import special, stats

import jaxdiff as jd
from jaxdiff import parametrizations, trees
from jaxdiff.objectives import denoising, weightings
from jaxdiff.parametrizations import Estimate, determinant, output_of, raw_time_input

KEY = jax.random.key(0)
# Draws at each of three times, in blocks of independent coordinates. A loss is the mean over a block. All tests use one
# shape, so that each operation is compiled once.
BLOCKS, BLOCK = 100, 200
N = BLOCKS * BLOCK
MEAN, STD = 0.3, 0.7  # of the Gaussian data
ALL = {
    "eps": parametrizations.eps(raw_time_input),
    "x0": parametrizations.x0(raw_time_input),
    "v": parametrizations.v(raw_time_input),
    "velocity": parametrizations.velocity(raw_time_input),
    "score": parametrizations.score(raw_time_input),
    "edm": parametrizations.edm(0.6, time_input=raw_time_input),
}


def _inside(process):
    """The process without its last fiftieth, where every parametrization is defined."""
    return dataclasses.replace(process, t_max=process.t_max - 0.02 * (process.t_max - process.t_min))


def _at(ts):
    """A time sampler that draws each of `ts` equally often, in order."""
    return lambda key, process, batch: (jnp.asarray(np.repeat(ts, batch // len(ts))), jnp.ones(batch))


def _gaussian_data():
    return {"x": jnp.asarray(MEAN + STD * np.random.default_rng(0).normal(size=(3 * BLOCKS, BLOCK)))}


def _network(process, parametrization, denoiser):
    """A network with the output that `denoiser` means; if it has parameters, scaled and shifted by them."""

    def apply(params, x, t):
        x = trees.lincomb((1 / parametrization.scale(process, t),), (x,))
        output = output_of(process, parametrization, denoiser(x, t), t)
        return output if params is None else params["scale"] * output + params["shift"]

    return apply


def _slope(function, t, process):
    """The derivative by finite differences."""
    h = 1e-6 * (process.t_max - process.t_min)
    return (function(t + h) - function(t - h)) / (2 * h)


def _velocity_det(process, t):
    return process.alpha(t) * _slope(process.sigma, t, process) - process.sigma(t) * _slope(process.alpha, t, process)


def _g2(process, t):
    """g^2 = d sigma^2/dt - 2 (d log alpha/dt) sigma^2."""
    f = _slope(lambda t: np.log(process.alpha(t)), t, process)
    return _slope(lambda t: process.sigma(t) ** 2, t, process) - 2 * f * process.sigma(t) ** 2


# The squared error of each output per squared error of x0, from the definition in its paper.
OWN = {
    "eps": lambda p, t: p.alpha(t) ** 2 / p.sigma(t) ** 2,
    "x0": lambda p, t: np.ones_like(t),
    "v": lambda p, t: (p.alpha(t) ** 2 + p.sigma(t) ** 2) ** 2 / p.sigma(t) ** 2,
    "velocity": lambda p, t: _velocity_det(p, t) ** 2 / p.sigma(t) ** 2,
    "score": lambda p, t: p.alpha(t) ** 2 / p.sigma(t) ** 4,
    "edm": lambda p, t: ((p.alpha(t) * 0.6) ** 2 + p.sigma(t) ** 2) / (p.sigma(t) * 0.6) ** 2,
}


def _snr(p, t):
    return p.alpha(t) ** 2 / p.sigma(t) ** 2


# Each weighting, and its weight of the squared error of x0 in terms of SNR.
WEIGHTINGS = {
    **{f"uniform {name}": (weightings.uniform(ALL[name]), OWN[name]) for name in ALL},
    "edm": (weightings.edm(0.5), lambda p, t: ((p.alpha(t) * 0.5) ** 2 + p.sigma(t) ** 2) / (p.sigma(t) * 0.5) ** 2),
    "min-SNR": (weightings.min_snr(), lambda p, t: np.minimum(_snr(p, t), 5)),
    "P2": (weightings.p2(0.5, 2.0), lambda p, t: _snr(p, t) / (2.0 + _snr(p, t)) ** 0.5),
    "P2 default": (weightings.p2(), lambda p, t: _snr(p, t) / (1 + _snr(p, t))),
    "sigmoid": (weightings.sigmoid(-3.0), lambda p, t: np.exp(-3) * special.expit(np.log(_snr(p, t)) + 3)),
    "sigmoid on eps": (
        weightings.sigmoid(2.0),
        lambda p, t: _snr(p, t) * special.expit(2 - np.log(_snr(p, t))),
    ),
    "likelihood": (weightings.likelihood(), lambda p, t: _g2(p, t) * _snr(p, t) / p.sigma(t) ** 2),
}


# ---------------------------------------------------------------------------------------------------------- weightings


def test_weightings_are_their_formulas(process, x64):
    """The code weights |(x0_hat - x0)/sigma|^2 and the formulas weight |x0_hat - x0|^2: a factor sigma^2 apart."""
    t = inner_times(process, 6)
    for name, (weighting, on_x0) in WEIGHTINGS.items():
        got = weighting(process, jnp.asarray(np.repeat(t, BLOCKS // 2)))[:: BLOCKS // 2]
        np.testing.assert_allclose(got, process.sigma(t) ** 2 * on_x0(process, t), rtol=1e-6, err_msg=name)


SINGULAR = (*NO_SIGNAL_AT_END, "vp_linear")


def test_weightings_of_variance_preserving_processes_and_of_flow(x64):
    t = np.linspace(0.05, 0.95, 3 * BLOCKS)
    for name in ("vp_linear", "vp_cosine", "vp_nichol"):
        process = PROCESSES[name]
        on_x0 = weightings.uniform(parametrizations.v())(process, jnp.asarray(t)) / process.sigma(t) ** 2
        np.testing.assert_allclose(on_x0, _snr(process, t) + 1, rtol=1e-10)
    flow = PROCESSES["flow"]  # v = eps - x0, and the error of v is that of x0 over t
    np.testing.assert_allclose(weightings.uniform(parametrizations.velocity())(flow, jnp.asarray(t)), 1.0, rtol=1e-12)
    edm = PROCESSES["edm"]  # Song's g^2 is 2 sigma for sigma = t
    np.testing.assert_allclose(weightings.likelihood()(edm, jnp.asarray(t)), 2 / t, rtol=1e-12)


@pytest.mark.parametrize("of", SINGULAR)
def test_weightings_at_the_singular_ends(of):
    """Weights are finite in float32 at t_min and t_max. Two weightings have no limit without noise, and are left out."""
    process = PROCESSES[of]
    for name, (weighting, _) in WEIGHTINGS.items():
        w = np.asarray(weighting(process, jnp.array([process.t_min, process.t_max])))
        if process.sigma(process.t_min) == 0 and name in ("likelihood", "uniform score"):
            w = w[1:]
        assert np.all(np.isfinite(w)), name
        assert np.all(w >= 0), name


@pytest.mark.parametrize("of", SINGULAR)
def test_losses_are_finite_at_the_ends_of_the_drawn_times(of, monkeypatch):
    """With the least and the greatest number of the generator, in float32, for every parametrization and weighting."""
    process = PROCESSES[of]
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape=(): jnp.resize(jnp.array([0.0, 1 - 2**-23]), shape))
    batch = {"x": jnp.array([[0.5, -1.0], [0.1, 0.7]])}
    for make in (
        parametrizations.eps,
        parametrizations.x0,
        parametrizations.v,
        parametrizations.score,
        parametrizations.edm,
    ):
        try:
            parametrizations.check(process, make())
        except ValueError:  # refused by name where no signal is left
            continue

        for name in ("uniform score", "uniform x0", "min-SNR", "likelihood"):
            losses, _ = denoising(process, make(), lambda p, x, t: x / 2, weighting=WEIGHTINGS[name][0])(
                None, KEY, batch
            )
            assert np.all(np.isfinite(losses)), (make.__name__, name)


# ---------------------------------------------------------------------------------- the minimum of the denoising loss


def test_minimum_on_gaussian_data(process, x64):
    """The loss of the exact network is the posterior variance, s^2 sigma^2/(alpha^2 s^2 + sigma^2), times the weight.

    The sum of N squared errors is a chi-square, so its standard error is sqrt(2/N) of itself: 1% here.
    """
    process, batch = _inside(process), _gaussian_data()
    ts = inner_times(process, 3, margin=0.1)
    exact = jd.denoisers.gaussian(process, MEAN, STD)
    variance = STD**2 * process.sigma(ts) ** 2 / (process.alpha(ts) ** 2 * STD**2 + process.sigma(ts) ** 2)
    for name, weighting, on_x0 in (*((name, None, OWN[name]) for name in ALL), ("v", *WEIGHTINGS["min-SNR"])):
        network = _network(process, ALL[name], exact)
        losses, metrics = denoising(process, ALL[name], network, weighting=weighting, times=_at(ts))(None, KEY, batch)
        want = on_x0(process, ts) * variance
        np.testing.assert_array_less(abs(losses.reshape(3, BLOCKS).mean(1) / want - 1), 4 * np.sqrt(2 / N))
        np.testing.assert_array_equal(metrics["t"], np.repeat(ts, BLOCKS))
        if weighting is None:
            np.testing.assert_array_equal(metrics["mse"], losses)


def test_minimum_on_a_mixture(process, x64):
    """In one dimension, the posterior variance is known by quadrature over x0 and x_t, without a formula for mixtures."""
    process = _inside(process)
    ts = inner_times(process, 3, margin=0.15)
    weights, means, stds = np.array([0.4, 0.6]), np.array([-1.0, 0.8]), np.array([0.3, 0.5])
    one = jd.denoisers.gaussian_mixture(process, weights, means[:, None], stds)

    def exact(x, t):  # for coordinates that are independent draws
        return Estimate(*(side.reshape(x.shape) for side in one(x.reshape(-1, 1), jnp.repeat(t, BLOCK))))

    rng = np.random.default_rng(0)
    which = rng.choice(2, size=3 * N, p=weights)
    batch = {"x": jnp.asarray(means[which] + stds[which] * rng.normal(size=3 * N)).reshape(3 * BLOCKS, BLOCK)}

    y = np.linspace(-4, 4, 1201)
    prior = sum(w * stats.norm.pdf(y, m, s) for w, m, s in zip(weights, means, stds, strict=True))
    variance = []
    for alpha, sigma in zip(process.alpha(ts), process.sigma(ts), strict=True):
        x = np.linspace(-4 * alpha - 6 * sigma, 4 * alpha + 6 * sigma, 401)[:, None]
        joint = prior * stats.norm.pdf(x, alpha * y, sigma)
        total = joint.sum(1) + 1e-300
        within = joint @ y**2 / total - (joint @ y / total) ** 2
        variance.append(np.sum(total * within) / np.sum(total))

    for name in ("v", "edm"):
        for weighting, on_x0 in ((None, OWN[name]), WEIGHTINGS["min-SNR"]):
            objective = denoising(
                process, ALL[name], _network(process, ALL[name], exact), weighting=weighting, times=_at(ts)
            )
            losses = np.asarray(objective(None, KEY, batch)[0]).reshape(3, BLOCKS)
            error = losses.std(1) / np.sqrt(BLOCKS)
            np.testing.assert_array_less(abs(losses.mean(1) - on_x0(process, ts) * variance), 4 * error)


@pytest.mark.parametrize(
    ("name", "of"), [("v", p) for p in PROCESSES] + [(name, "flow") for name in ALL if name != "v"]
)
def test_it_is_the_minimum(name, of, x64):
    """A constant added to the output raises each loss by its weighted square, and by a term that is 0 on average."""
    process, batch = _inside(PROCESSES[of]), _gaussian_data()
    ts = inner_times(process, 3, margin=0.1)
    exact = jd.denoisers.gaussian(process, MEAN, STD)
    weighting = weightings.p2()
    objective = denoising(process, ALL[name], _network(process, ALL[name], exact), weighting=weighting, times=_at(ts))

    def losses(shift=0.0, scale=1.0):
        return np.asarray(objective({"shift": shift, "scale": scale}, KEY, batch)[0]).reshape(3, BLOCKS)

    per_output = weighting(process, ts) / determinant(process, ALL[name], ts) ** 2
    size_of_error = np.sqrt(losses().mean(1) / per_output)
    delta = size_of_error.min()
    up, here, down = losses(delta), losses(), losses(-delta)
    np.testing.assert_allclose((up + down) / 2 - here, np.tile((per_output * delta**2)[:, None], BLOCKS), rtol=1e-6)
    wider, narrower = losses(scale=1.1), losses(scale=0.9)
    for derivative in ((up - down) / 2, (wider - narrower) / 2):
        np.testing.assert_array_less(abs(derivative.mean(1)), 4 * derivative.std(1) / np.sqrt(BLOCKS))
    # The rise is 0.01 of the square of the output.
    assert np.all((wider + narrower) / 2 > here)


def test_loss_does_not_depend_on_what_the_network_predicts(process, x64):
    """One error of x0 gives the same loss for every network output, to rounding.

    The data are one known point, so that the error is exact and the loss has no randomness.
    """
    process = _inside(process)
    ts = inner_times(process, 3)
    truth, error = 0.5, -0.2
    batch = {"x": jnp.full((3 * BLOCKS, BLOCK), truth)}

    def wrong(x, t):
        x0 = jnp.full_like(x, truth + error)
        return Estimate(x0, trees.lincomb((1 / process.sigma(t), -process.alpha(t) / process.sigma(t)), (x, x0)))

    for name, parametrization in ALL.items():
        network = _network(process, parametrization, wrong)
        more = ("edm", "P2", "sigmoid", "likelihood") if name == "v" else ()
        for weighting, on_x0 in (WEIGHTINGS[key] for key in ("uniform eps", "min-SNR", *more)):
            objective = denoising(process, parametrization, network, weighting=weighting, times=_at(ts))
            losses, metrics = objective(None, KEY, batch)
            want = np.repeat(on_x0(process, ts), BLOCKS) * error**2
            np.testing.assert_allclose(losses, want, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(metrics["mse"], np.repeat(OWN[name](process, ts), BLOCKS) * error**2, rtol=1e-6)


@pytest.mark.parametrize("name", ["eps", "x0", "v", "edm"])
def test_a_linear_network_learns_the_regression_line(name, x64):
    """The least loss over F = a x + b, found by one Newton step, is at a = Cov(F, x)/Var(x) and b = E F - a E x."""
    process, t, n, batch = PROCESSES["vp_linear"], 0.35, 3 * N, _gaussian_data()
    alpha, sigma = process.alpha(t), process.sigma(t)
    c = 1 / np.sqrt((alpha * 0.6) ** 2 + sigma**2)
    p, q = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "edm": (c * sigma / 0.6, -c * alpha * 0.6)}[name]
    scale = c if name == "edm" else 1.0
    objective = denoising(process, ALL[name], lambda w, x, t: w[0] * x + w[1], times=_at([t]))

    gradient = jax.jit(jax.grad(lambda params: jnp.mean(objective(params, KEY, batch)[0])))
    start = jnp.array([0.3, -0.2])
    hessian = jnp.stack([gradient(start + e) - gradient(start) for e in jnp.eye(2)], axis=1)
    found = start - jnp.linalg.solve(hessian, gradient(start))
    variance, mean = scale**2 * (alpha**2 * STD**2 + sigma**2), scale * alpha * MEAN
    a = scale * (p * alpha * STD**2 + q * sigma) / variance
    residual = p**2 * STD**2 + q**2 - a**2 * variance
    errors = np.sqrt(residual / n / variance) * np.array([1, np.sqrt(variance + mean**2)])
    np.testing.assert_array_less(abs(found - np.array([a, p * MEAN - a * mean])), 4 * errors)
