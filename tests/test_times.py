"""Time samplers compared with the distributions in their names, and the history of losses with plain Python."""

import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES
from scipy import special, stats

import jaxdiff as jd
from jaxdiff import parametrizations
from jaxdiff.objectives import denoising, times

KEY = jax.random.key(0)


def test_uniform_logit_normal_and_log_normal_have_their_distributions():
    n = 20_000
    for process in (PROCESSES["vp_linear"], PROCESSES["edm"]):
        span = process.t_max - process.t_min
        for i, sampler in enumerate((times.uniform(), times.stratified())):
            t, weight = sampler(jax.random.key(i), process, n)
            assert stats.kstest(t, stats.uniform(process.t_min, span).cdf).pvalue > 1e-3
            np.testing.assert_array_equal(weight, 1.0)
        t, weight = times.logit_normal(0.5, 0.8)(KEY, process, n)
        assert (
            stats.kstest(special.logit((np.float64(t) - process.t_min) / span), stats.norm(0.5, 0.8).cdf).pvalue > 1e-3
        )
        np.testing.assert_array_equal(weight, 1.0)
    t, weight = jax.jit(lambda key: times.log_normal()(key, PROCESSES["edm"], n))(KEY)  # sigma = t
    assert stats.kstest(np.log(t), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(weight, 1.0)
    process = PROCESSES["vp_discrete"]
    t = np.float64(jax.jit(lambda key: times.log_normal(0.2, 0.9)(key, process, n)[0])(KEY))
    ratio = np.log(process.sigma(t) / process.alpha(t))
    assert stats.kstest(ratio, stats.norm(0.2, 0.9).cdf).pvalue > 1e-3


def test_stratified_has_one_in_each_interval_and_little_variance():
    process, n = PROCESSES["flow"], 64
    drawn = jax.vmap(lambda k: times.stratified()(k, process, n)[0])(jax.random.split(KEY, 3000))
    strata = np.sort(np.floor(np.float64(drawn) * n), axis=1)
    np.testing.assert_array_equal(strata, np.tile(np.arange(n), (3000, 1)))
    # The mean over a batch is always within half an interval of the true mean.
    assert np.max(np.abs(np.mean(np.float64(drawn), axis=1) - 0.5)) < 0.5 / n + 1e-6
    for i in (0, 17):  # and each single draw is still uniform
        assert stats.kstest(drawn[:, i], stats.uniform.cdf).pvalue > 1e-3


SAMPLERS = {
    "uniform": times.uniform(),
    "stratified": times.stratified(),
    "logit_normal": times.logit_normal(0.0, 3.0),
    "log_normal": times.log_normal(0.0, 5.0),
}


def test_times_stay_off_the_singular_ends(process, monkeypatch):
    """In float32, even for the most extreme values that a random generator may return."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape=(): jnp.resize(jnp.array([0.0, 1 - 2**-24]), shape))
    monkeypatch.setattr(jax.random, "normal", lambda key, shape=(): jnp.resize(jnp.array([-30.0, 30.0]), shape))
    for sampler in SAMPLERS.values():
        t = sampler(KEY, process, 2)[0]
        assert t.dtype == jnp.float32
        assert np.all(np.isfinite(t))
        assert np.min(t) >= np.float32(process.t_min)
        assert np.max(t) <= np.float32(process.t_max)
        assert np.all(np.isfinite(jd.log_snr(process, t)))


def test_indices_are_uniform():
    process = jd.processes.vp_discrete(steps=50)
    t, weight = times.indices()(KEY, process, 20_000)
    counts = np.bincount(np.asarray(t, int), minlength=50)
    assert len(counts) == 50
    assert stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_array_equal(t, np.round(t))
    np.testing.assert_array_equal(weight, 1.0)


def _seen(process, history, rounds, rng):
    """A history that `update` has filled, and the same history in plain Python."""
    count = len(process.log_snrs)
    sampler, plain = (
        times.importance(process, history=history),
        [collections.deque(maxlen=history) for _ in range(count)],
    )
    update = jax.jit(times.Importance.update)
    for _ in range(rounds):
        index, losses = rng.integers(0, count, 16), rng.gamma(2.0, size=16) * 0.5
        sampler = update(sampler, jnp.asarray(index, jnp.float32), jnp.asarray(losses, jnp.float32))
        for i, loss in zip(index, losses, strict=True):
            plain[i].append(loss)
    return sampler, plain


def test_importance_keeps_the_last_losses_and_draws_in_proportion():
    process, history = jd.processes.vp_discrete("cosine", 6), 3
    for rounds in (1, 2, 20):
        sampler, plain = _seen(process, history, rounds, np.random.default_rng(0))
        for i, kept in enumerate(plain):
            stored = np.asarray(sampler.losses[i])
            np.testing.assert_allclose(np.sort(stored[: len(kept)]), np.sort(kept), rtol=1e-6)
            np.testing.assert_array_equal(stored[len(kept) :], 0)
        if rounds == 1:
            assert min(map(len, plain)) < history  # some indices have not been seen often enough
            want = np.full(6, 1 / 6)
        elif rounds == 20:
            root = np.array([np.sqrt(np.mean(np.square(kept))) for kept in plain])
            want = 0.999 * root / root.sum() + 0.001 / 6
            assert root.max() > 1.2 * root.min()
        else:
            continue
        np.testing.assert_allclose(sampler.probabilities(), want, rtol=1e-5)


def test_importance_is_unbiased():
    """`E[weight f(t)]` is the uniform mean of f, and the draws follow the probabilities."""
    process = jd.processes.vp_discrete("cosine", 5)
    sampler = times.Importance(jnp.array([[4.0], [1.0], [0.1], [2.0], [1e-3]]), jnp.ones(5, jnp.int32))
    n = 40_000
    t, weight = jax.jit(lambda sampler, key: sampler(key, process, n))(sampler, KEY)
    counts = np.bincount(np.asarray(t, int), minlength=5)
    p = np.float64(sampler.probabilities())
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    assert stats.chisquare(counts, n * p / p.sum()).pvalue > 1e-3
    f = np.array([4.0, 1.0, 0.1, 2.0, 1e-3]) + 0.3
    values = np.float64(weight) * f[np.asarray(t, int)]
    assert abs(values.mean() - f.mean()) < 4 * values.std() / np.sqrt(n)
    nothing = times.Importance(jnp.zeros((5, 2)), jnp.full(5, 2))
    np.testing.assert_allclose(nothing.probabilities(), 0.2, rtol=1e-6)


def test_importance_inside_of_a_jitted_step():
    """The step is compiled once, and the history holds the unweighted losses."""
    process = jd.processes.vp_discrete("cosine", 8)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def step(sampler, key, x):
        objective = denoising(process, parametrizations.eps(), lambda p, x, t: 0.5 * x, times=sampler)
        losses, metrics = objective(None, key, {"x": x})
        return sampler.update(metrics["t"], losses / metrics["time_weight"]), losses, metrics

    sampler = times.importance(process, history=2)
    for i in range(12):
        sampler, losses, metrics = step(sampler, jax.random.key(i), jnp.ones((16, 3)))
        np.testing.assert_allclose(losses, metrics["mse"] * metrics["time_weight"], rtol=1e-6)
        last = int(metrics["t"][-1])
        slot = int(sampler.seen[last] - 1) % 2
        np.testing.assert_allclose(sampler.losses[last, slot], metrics["mse"][-1], rtol=1e-6)
    assert int(sampler.seen.sum()) == 12 * 16
    assert float(jnp.ptp(metrics["time_weight"])) > 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: times.indices()(KEY, p, 4), TypeError, "VPLinear.*discrete processes"),
        (lambda p: times.importance(p), TypeError, "VPLinear.*discrete processes"),
        (lambda p: times.importance(PROCESSES["vp_discrete"], history=0), ValueError, "history = 0"),
        (lambda p: times.importance(PROCESSES["vp_discrete"])(KEY, jd.processes.vp_discrete("cosine", 9), 4),
         ValueError, "indices of process = 9.*1000"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(PROCESSES["vp_linear"])
