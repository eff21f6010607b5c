"""The objectives that are bounds, against the bounds of `likelihood` and against separate derivatives."""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.exact import bind, gaussian, moved, start

from jaxdiff import grids, likelihood, parametrizations, processes, trees
from jaxdiff.arithmetic import derivative
from jaxdiff.components import choose
from jaxdiff.data.fields import Field
from jaxdiff.likelihood.bounds import prior_divergence, reconstruction
from jaxdiff.models import Diffusion
from jaxdiff.networks.module import Network
from jaxdiff.objectives import Context, Hybrid, Variational
from jaxdiff.objectives.variational import InLogSNR

KEY = jax.random.key(0)
LEARNED = choose(processes.learned, gamma_min=-6.0, gamma_max=4.0, hidden=5)
ENDS = {"vp_cosine": (("t_min", 0.1), ("t_max", 0.9)), "edm": (("sigma_min", 0.2), ("sigma_max", 3.0))}
SHAPE = ("log_slope", "log_inner", "bias", "log_outer")


class Guess(Network):
    """A network, with the parametrization eps, that is right for N(0, 1) up to a factor, on the progress of gamma."""

    takes: ClassVar[tuple[str, ...]] = ()

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        factor = self.param("factor", nn.initializers.constant(0.8), ())
        gamma = -6.0 + time / 100
        return factor * jnp.sqrt(jax.nn.sigmoid(gamma)).reshape((-1,) + (1,) * (x.ndim - 1)) * x


def learned_model():
    model = Diffusion(network=Guess(), process=LEARNED, parametrization=choose(parametrizations.eps), field="x")
    _, bound, _ = bind(model)
    params = start(bound)
    params["process"] |= {name: moved(params["process"][name]) for name in SHAPE}
    return bound, params


def means(function, keys):
    """The mean of a function over keys and examples, and its standard error."""
    values = np.asarray(jax.jit(jax.vmap(function))(keys), np.float64).mean(axis=1)
    return values.mean(), values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(("kind", "levels"), [("vp_cosine", None), ("edm", 8), ("learned", 8)])
def test_the_variational_objective_is_the_bound_in_expectation(kind, levels):
    if kind == "learned":
        bound, params = learned_model()
    else:
        # The exact network of other data, so that no term is trivial.
        _, bound, _ = bind(gaussian(kind, (0.4,), 0.7, options=ENDS[kind]))
        params = start(bound)
    level = np.random.default_rng(0).integers(0, 8, (16, 3))
    x = np.asarray(2 * level / 7 - 1, np.float32)
    bits = 1 / (3 * math.log(2))
    objective = Variational(levels=levels).make(bound)
    made = jax.jit(lambda key: objective(params, key, {"x": x}, Context()))(KEY)
    assert set(made.metrics) == {"prior", "reconstruction", "diffusion"}
    np.testing.assert_allclose(sum(made.metrics.values()), made.losses, rtol=1e-5)
    keys = jax.random.split(KEY, 500)
    mine = means(lambda key: objective(params, key, {"x": x}, Context()).losses, keys)
    denoiser = bound.denoiser(params)
    other = means(lambda key: bits * likelihood.continuous_time(key, denoiser, x, levels=levels, samples=4).nats, keys)
    assert abs(mine[0] - other[0]) < 5 * math.hypot(mine[1], other[1])
    # The comparison would see an error of a few percent.
    assert math.hypot(mine[1], other[1]) < 0.04 * abs(other[0])


def test_one_backward_pass_gives_both_gradients_of_a_learned_process():
    """Ends and network follow the bound, and the shape the squares of the diffusion losses (VDM, appendix I.2)."""
    bound, params = learned_model()
    n, bits = 8, 1 / (3 * math.log(2))
    x = jnp.asarray(2 * np.random.default_rng(1).integers(0, 8, (n, 3)) / 7 - 1, jnp.float32)
    objective = Variational(levels=8).make(bound)
    found = jax.jit(jax.grad(lambda p: objective(p, KEY, {"x": x}, Context()).losses.mean()))(params)

    random = trees.batch_key(KEY, n)
    t = (jax.random.uniform(jax.random.fold_in(KEY, 0)) + jnp.arange(n) / n) % 1.0
    eps = trees.normal_like(random.each(1), x)

    def diffusion(params):
        process = bound.process(params)
        noisy = processes.corrupt(process, x, eps, t)
        wrong = eps - bound.denoiser(params)(noisy, t).eps
        return bits / 2 * derivative(process.gamma, t) * jnp.sum(wrong**2, axis=1)

    def whole(params):
        process = bound.process(params)
        ends = InLogSNR(t_min=process.gamma_min, t_max=process.gamma_max)
        low, high = process.gamma_min, process.gamma_max
        prior = prior_divergence(ends, x, high)
        last = reconstruction(random.each(2), x, ends.alpha(low), ends.sigma(low), 8)
        return jnp.mean(bits * (prior + last) + diffusion(params))

    of_bound = jax.jit(jax.grad(whole))(params)
    of_squares = jax.jit(jax.grad(lambda p: jnp.mean(diffusion(p) ** 2)))(params)
    wanted = {name: (of_squares if name in SHAPE else of_bound)["process"][name] for name in params["process"]}
    for name, slope in wanted.items():
        scale = np.abs(slope).max()
        assert scale > 1e-5, name
        np.testing.assert_allclose(found["process"][name] / scale, slope / scale, atol=2e-3, err_msg=name)
    factor = [tree["model"]["params"]["factor"] for tree in (found, of_bound, of_squares)]
    np.testing.assert_allclose(factor[0], factor[1], rtol=1e-3)
    assert abs(factor[2] / factor[1] - 1) > 0.1


@pytest.mark.parametrize("law", ["vp_cosine", "vp_linear"])
def test_the_process_of_log_snr_is_every_process_of_constant_variance(law):
    process, known, gamma = InLogSNR(t_min=-6.0, t_max=4.0), getattr(processes, law)(), np.linspace(-6, 4, 11)
    np.testing.assert_allclose(processes.log_snr(process, gamma), -gamma, atol=1e-12)
    t = processes.time_of_log_snr(known, -gamma)
    for found, exact in ((process.alpha, known.alpha), (process.sigma, known.sigma)):
        np.testing.assert_allclose(found(gamma), exact(t), rtol=1e-9)
        np.testing.assert_allclose(found(jnp.asarray(gamma)), exact(t), rtol=1e-5)
    assert (process.alpha(process.t_clean), process.sigma(process.t_clean)) == (1.0, 0.0)


class Variances(Network):
    """A network, with the parametrization x0, that predicts a share of its input, and variances that depend on it."""

    takes: ClassVar[tuple[str, ...]] = ()
    out_channels: int | None = None

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        share = self.param("share", nn.initializers.constant(0.3), ())
        variance = self.param("variance", nn.initializers.constant(0.4), ())
        return jnp.concatenate([share * x, variance * jnp.tanh(x)], axis=-1)


def discrete_model(steps=6):
    fields = {"x": Field("picture", (2, 1, 3), "float32")}
    process = choose(processes.vp_discrete, schedule="cosine", steps=steps)
    settings = {"process": process, "parametrization": choose(parametrizations.x0), "learned_variance": True}
    _, bound, _ = bind(Diffusion(network=Variances(), field="x", **settings), fields)
    assert bound.network.out_channels == 6
    return bound, start(bound)


@pytest.mark.parametrize("levels", [None, 8])
def test_the_terms_of_the_hybrid_objective_sum_to_the_bound(levels):
    """`vb` over all indices is the diffusion and the reconstruction of `discrete_time` with learned variances."""
    steps = 6
    bound, params = discrete_model(steps)
    x = np.asarray(2 * np.random.default_rng(0).integers(0, 8, (12, 2, 1, 3)) / 7 - 1, np.float32)
    bits = 1 / (6 * math.log(2))
    objective, process = Hybrid(levels=levels, weight=0.5).make(bound), bound.process(params)

    def vb(key):
        """Uniform indices: `steps` times the mean is the sum."""
        return steps * objective(params, key, {"x": x}, Context()).metrics["vb"]

    def bound_of(key):
        found = likelihood.discrete_time(
            key, bound.denoiser(params), x, grids.discrete(process, steps), variance="learned", levels=levels
        )
        return bits * (found.diffusion + found.reconstruction)

    mine = means(vb, jax.random.split(KEY, 3000))
    other = means(bound_of, jax.random.split(KEY, 300))
    assert abs(mine[0] - other[0]) < 5 * math.hypot(mine[1], other[1])
    assert math.hypot(mine[1], other[1]) < 0.03 * abs(other[0])
    found = jax.jit(lambda key: objective(params, key, {"x": x}, Context()))(KEY)
    assert set(found.metrics) == {"mse", "vb"}
    np.testing.assert_allclose(found.losses, found.metrics["mse"] + 0.5 * steps * found.metrics["vb"], rtol=1e-5)


def test_the_bound_of_the_hybrid_objective_trains_the_variances_alone():
    bound, params = discrete_model()
    x = jax.random.normal(KEY, (8, 2, 1, 3))
    objective = Hybrid(levels=None).make(bound)

    @jax.jit
    def slopes(params):
        def of(name):
            return jax.grad(lambda p: objective(p, KEY, {"x": x}, Context()).metrics[name].mean())(params)

        return {name: of(name)["model"]["params"] for name in ("vb", "mse")}

    found = slopes(params)
    assert found["vb"]["share"] == 0
    assert abs(found["vb"]["variance"]) > 1e-4
    assert found["mse"]["variance"] == 0
    assert abs(found["mse"]["share"]) > 1e-4
