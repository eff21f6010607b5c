"""RePaint's schedule, and its steps against a reading of the paper in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import grids, trees
from jaxdiff.posterior import jump_schedule, repaint

KEY = jax.random.key(0)
PROCESS = jd.processes.vp_linear()
TIMES = np.append(grids.uniform_time(PROCESS, 6)[:-1], 0.0)
MEAN, STD = 0.5, 0.75
DENOISER = jd.denoisers.gaussian(PROCESS, MEAN, STD)
run = jax.jit(repaint, static_argnames=("eta", "jump_length", "resamplings"))
MASK = np.array([True, False, True])


def test_the_published_schedule():
    """2,410 evaluations and 2,160 steps up; every move begins where the last one ended."""
    places, down = jump_schedule(250, jump_length=10, resamplings=10)
    assert (down.sum(), (~down).sum()) == (2410, 2160)
    ends = places + np.where(down, 1, -1)
    np.testing.assert_array_equal(places[1:], ends[:-1])
    assert (places[0], ends[-1], places.max()) == (0, 250, 249)
    # Every level is evaluated ten times, except the first nine and the last one.
    np.testing.assert_array_equal(np.bincount(places[down]), [1] * 9 + [10] * 240 + [1])


def test_without_resamplings_it_walks_straight_down():
    places, down = jump_schedule(7, jump_length=2, resamplings=1)
    np.testing.assert_array_equal(places, np.arange(7))
    assert down.all()


def _reading(x, y, draw):
    """Algorithm 1 with the jumps of a grid of six steps, `jump_length=2` and two resamplings, in the paper's letters."""
    bar = np.array([PROCESS.alpha(t) ** 2 for t in TIMES[::-1]])  # bar[0] = 1 is clean, bar[6] is the noise
    moves, t, left = [], 6, {1: 1, 3: 1}
    while t >= 1:
        if left.get(t, 0):
            left[t] -= 1
            moves += [(t, +1), (t + 1, +1)]
            t += 2
        moves.append((t, -1))
        t -= 1
    for i, (t, direction) in enumerate(moves):
        if direction > 0:
            alpha = bar[t + 1] / bar[t]
            x = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * draw(i, None)
            continue
        known = np.sqrt(bar[t]) * y + np.sqrt(1 - bar[t]) * draw(i, 0)
        x = np.where(MASK, known, x)
        alpha = bar[t] / bar[t - 1]
        eps = np.sqrt(1 - bar[t]) * (x - np.sqrt(bar[t]) * MEAN) / (bar[t] * STD**2 + 1 - bar[t])
        mean = (x - (1 - alpha) / np.sqrt(1 - bar[t]) * eps) / np.sqrt(alpha)
        variance = (1 - bar[t - 1]) / (1 - bar[t]) * (1 - alpha)
        x = mean + np.sqrt(variance) * draw(i, 1)
    return np.where(MASK, y, x), len(moves)


def test_all_moves_against_a_reading_of_the_paper(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def draw(i, part):
        key = jax.random.fold_in(KEY, i)
        return np.asarray(
            jax.random.normal(trees.split(trees.split(key, 2)[part] if part is not None else key, 1)[0], (4, 3))
        )

    wanted, moves = _reading(x, y, draw)
    assert moves == 6 + 2 * 2 * 2
    hidden = np.where(MASK, y, np.nan)  # what is hidden does not matter
    got = run(KEY, DENOISER, jnp.asarray(x), TIMES, jnp.asarray(hidden), MASK, jump_length=2, resamplings=2)
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


def test_a_hidden_coordinate_that_is_independent_of_the_known_ones():
    """Its mean and variance follow from the moves one by one; the known ones end at their values."""
    n, process = 20_000, jd.processes.edm(0.02, 20.0)
    times = grids.karras(process, 12)
    mean, variance = 0.0, process.t_max**2
    for place, down in zip(*jump_schedule(12, jump_length=3, resamplings=2), strict=True):
        t, s = times[place], times[place + (1 if down else -1)]
        if not down:
            variance += s**2 - t**2
            continue
        # The posterior mean is MEAN + gain (x - MEAN), and DDPM moves to x0 + (s/t)^2 (x - x0).
        gain = STD**2 / (STD**2 + t**2)
        slope = gain + (s / t) ** 2 * (1 - gain)
        mean, variance = MEAN + slope * (mean - MEAN), slope**2 * variance + s**2 * (1 - s**2 / t**2)
    x = jd.prior_sample(jax.random.key(1), process, (n, 3))
    denoiser, y = jd.denoisers.gaussian(process, MEAN, STD), jnp.asarray([[2.0, -9.0, -1.0]])
    got = np.asarray(run(KEY, denoiser, x, times, y, MASK, jump_length=3, resamplings=2))
    np.testing.assert_array_equal(got[:, MASK], np.broadcast_to([2.0, -1.0], (n, 2)))
    np.testing.assert_allclose(got[:, 1].mean(), mean, atol=5 * np.sqrt(variance / n))
    np.testing.assert_allclose(got[:, 1].var(), variance, rtol=5 * np.sqrt(2 / n))


def test_an_observation_with_noise_is_left_where_it_is_noisier():
    """Its noise is the prior's from there on, so that the known region is denoised to its exact posterior."""
    n, noise, process = 20_000, 0.6, jd.processes.edm(0.02, 20.0)
    x = jd.prior_sample(jax.random.key(1), process, (n, 1))
    y = 1.4
    got = np.asarray(
        run(KEY, jd.denoisers.gaussian(process, MEAN, STD), x, grids.karras(process, 200), jnp.full((1, 1), y), True,
            std=noise, resamplings=1)
    )  # fmt: skip
    variance = 1 / (1 / STD**2 + 1 / noise**2)
    mean = variance * (MEAN / STD**2 + y / noise**2)
    np.testing.assert_allclose([got.mean(), got.std()], [mean, np.sqrt(variance)], atol=0.03)


def test_each_example_follows_its_key():
    """Pytrees, masks of a leaf each, and a start without signal."""
    process = jd.processes.flow()
    denoiser = jd.denoisers.gaussian(process, {"a": 1.0, "b": -1.0}, 0.5)
    keys, turned = jax.random.split(KEY, 4), np.array([2, 0, 3, 1])
    x = jd.prior_sample(keys, process, {"a": jnp.zeros((4, 3)), "b": jnp.zeros((4, 2, 2))})
    y, mask = jax.tree.map(lambda leaf: 0 * leaf + 0.3, x), {"a": MASK, "b": False}
    times = grids.uniform_time(process, 5)
    one, other = (
        run(k, denoiser, x, times, y, mask, jump_length=2, resamplings=2)
        for k, x in ((keys, x), (keys[turned], jax.tree.map(lambda leaf: leaf[turned], x)))
    )
    for name in x:
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(one[name][turned], other[name], rtol=1e-4, atol=1e-5)


X = jnp.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jump_schedule(0), "steps = 0"),
        (lambda: jump_schedule(9, jump_length=0), "jump_length = 0"),
        (lambda: repaint(KEY, DENOISER, X, TIMES, X, jnp.ones(4)), r"mask\.shape = \(4,\)"),
        (lambda: repaint(KEY, DENOISER, X, TIMES, jnp.ones((2, 3)), MASK), r"observation\.shape = \(2, 3\)"),
        (lambda: repaint(KEY, DENOISER, X, TIMES, {"a": X}, MASK), "structure of observation"),
        (lambda: repaint(KEY, DENOISER, X, TIMES, X, MASK, std=-1.0), r"std = -1\.0"),
        (lambda: repaint(KEY, DENOISER, X, TIMES, X, MASK, resamplings=0), "resamplings = 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
