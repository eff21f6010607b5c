"""Averages of the parameters: rules against hand computations, power-function profiles and what is made of them against
their definition, and a run's snapshots against averages that were kept all along.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import averages
from jaxdiff.networks import MLP
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config, DataConfig, TrainConfig
from jaxdiff.runs.config_json import to_json
from jaxdiff.runs.directory import create_run, write_config
from jaxdiff.training import posthoc_ema

WIDTHS = (0.05, 0.1)


def run_ema(rule, values, start=0.0):
    """The average after each of `values`, given to the update as the parameters of steps 1, 2, ..."""

    def body(average, item):
        number, value = item
        average = averages.update({"w": average}, {"w": value}, rule(number))["w"]
        return average, average

    values = jnp.asarray(values)
    start = jnp.full(values.shape[1:], start, values.dtype)
    return np.asarray(jax.lax.scan(body, start, (jnp.arange(1, len(values) + 1), values))[1])


def test_a_constant_decay_is_the_weighted_sum_after_its_warm_up(x64):
    """a_n = sum_k (1 - d_k) prod_{j > k} d_j p_k with d_k = min(d, (1 + k)/(10 + k)); 0.9 is reached at k = 80."""
    n, values = 200, np.random.default_rng(0).standard_normal(200)
    k = np.arange(1, n + 1)
    decays = np.minimum(0.9, (1 + k) / (10 + k))
    assert decays[78] < 0.9 == decays[79]
    after = np.append(np.cumprod(decays[::-1])[::-1][1:], 1.0)
    expected = np.sum((1 - decays) * after * values) + 3.0 * np.prod(decays)
    np.testing.assert_allclose(run_ema(averages.constant(0.9), values, start=3.0)[-1], expected, rtol=1e-12)


def test_the_average_of_a_geometric_sequence(x64):
    """p_k = r^k: a_n = d^n a_0 + (1 - d) r (d^n - r^n)/(d - r), the sum of a geometric series."""
    rule = averages.half_life(1000.0, 50, ramp=None)
    d, r, n = 0.5 ** (50 / 1000), 0.8, np.arange(1, 61)
    expected = d**n * 2.0 + (1 - d) * r * (d**n - r**n) / (d - r)
    np.testing.assert_allclose(run_ema(rule, r**n, start=2.0), expected, rtol=1e-12)


@pytest.mark.parametrize("batch", [10, 50, 100])
def test_after_one_half_life_half_is_left_whatever_the_batch(x64, batch):
    left = run_ema(averages.half_life(1000.0, batch, ramp=None), np.zeros(1000 // batch), start=1.0)[-1]
    np.testing.assert_allclose(left, 0.5, rtol=1e-12)


def test_the_ramp_follows_harmonic_numbers(x64):
    """While h = ramp * images seen, step k keeps 2^(-1/(ramp k)): of step m, steps m+1..n keep 2^(-(H_n - H_m)/ramp).

    With a half-life of 640 images, ramp 0.1 and a batch of 8, it ends at step 800.
    """
    rule = averages.half_life(640.0, 8, ramp=0.1)
    left = run_ema(rule, np.append(np.ones(100), np.zeros(900)))[[99, 499, 799, 999]]
    harmonic = np.cumsum(1 / np.arange(1, 1001))
    expected = [1.0, *(0.5 ** ((harmonic[n - 1] - harmonic[99]) / 0.1) for n in (500, 800))]
    expected.append(expected[-1] * 0.5 ** (200 * 8 / 640))
    np.testing.assert_allclose(left, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: averages.constant(1.0), "decay = 1.0"),
        (lambda: averages.constant(-0.1), "decay = -0.1"),
        (lambda: averages.half_life(0, 8), "images = 0"),
        (lambda: averages.half_life(10, 0), "batch_size = 0"),
        (lambda: averages.half_life(10, 8, ramp=0.0), r"ramp = 0\.0"),
        (lambda: averages.half_life(math.nan, 8), "images = nan"),
    ],
)
def test_rules_refuse_what_is_no_decay(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---------------------------------------------------------------------------------- power functions


def weights_of_steps(width, last):
    """The weights that the average after step `last` gives steps 1..last, as the products they are."""
    k = np.arange(1, last + 1)
    decays = (1 - 1 / k) ** (averages.gamma_of_width(width) + 1)
    return (1 - decays) * np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)


@pytest.mark.parametrize("width", [1e-9, 0.003, 0.05, 0.1, 0.2, 0.288, 0.2886751345])
def test_gamma_gives_the_width(width):
    """The standard deviation of Beta(gamma + 1, 1)."""
    gamma = averages.gamma_of_width(width)
    assert gamma > 0
    variance = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
    np.testing.assert_allclose(math.sqrt(variance), width, rtol=1e-13)


def test_gammas_in_closed_form():
    """At gamma = 1 the profile is a triangle, of standard deviation 1/sqrt(18); at gamma = 2 that of Beta(3, 1)."""
    np.testing.assert_allclose(averages.gamma_of_width(18**-0.5), 1.0, rtol=1e-12)
    np.testing.assert_allclose(averages.gamma_of_width(math.sqrt(3 / 80)), 2.0, rtol=1e-12)
    assert math.isfinite(averages.gamma_of_width(1e-300))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_power_rule_weighs_steps_by_powers_of_time_and_has_its_width(x64, width):
    """(k^(gamma+1) - (k-1)^(gamma+1))/n^(gamma+1); fed with unit vectors, the average is its own weights."""
    n, gamma = 400, averages.gamma_of_width(width)
    found = run_ema(averages.power(width), np.eye(n), start=7.0)
    for last in (1, 2, 37, n):
        k = np.arange(1, last + 1)
        expected = (k ** (gamma + 1) - (k - 1.0) ** (gamma + 1)) / last ** (gamma + 1)
        np.testing.assert_allclose(found[last - 1, :last], expected, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(weights_of_steps(width, last), expected, rtol=1e-9, atol=1e-300)
        assert not found[last - 1, last:].any()
    k = np.arange(n) + 0.5
    mean = found[-1] @ k
    np.testing.assert_allclose(math.sqrt(found[-1] @ (k - mean) ** 2) / n, width, rtol=1e-3)


def test_a_power_rule_keeps_its_digits_in_float32():
    steps = np.array([1, 2, 10, 1000, 10**5, 3 * 10**6])
    decays = np.asarray(jax.jit(averages.power(0.1))(jnp.asarray(steps)))
    assert decays.dtype == np.float32
    exact = np.where(steps == 1, 0.0, np.exp((averages.gamma_of_width(0.1) + 1) * np.log1p(-1 / np.maximum(steps, 2))))
    np.testing.assert_allclose(decays, exact, rtol=3e-7, atol=0)
    # What counts is 1 - decay; 1 can only be told from decay to 6e-8.
    np.testing.assert_allclose(1 - decays.astype(np.float64), 1 - exact, rtol=1e-6, atol=6e-8)


@pytest.mark.parametrize(("width", "at", "count"), [(0.075, 400, 8), (0.05, 400, 3), (0.04, 256, 16), (0.2, 600, 12)])
def test_the_error_told_bounds_that_of_the_weights_of_steps(width, at, count):
    """Weights of steps are profiles averaged over the steps, which brings no two profiles further apart."""
    steps = [at * (i + 1) // count for i in range(count) for _ in WIDTHS]
    widths = list(WIDTHS) * count
    found = posthoc_ema.solve(steps, widths, at, width)
    np.testing.assert_allclose(found.weights.sum(), 1.0, rtol=1e-12)
    made, wanted = np.zeros(at), weights_of_steps(width, at)
    for weight, s, w in zip(found.weights, steps, widths, strict=True):
        made[:s] += weight * weights_of_steps(w, s)
    gamma = averages.gamma_of_width(width)
    apart = math.sqrt(np.sum((made - wanted) ** 2)) / ((gamma + 1) / math.sqrt((2 * gamma + 1) * at))
    assert apart <= found.error + 1e-7
    assert apart > 0.9 * found.error - 1e-7
    assert found.error < 0.1


def test_the_weights_solve_the_least_squares_of_profiles_on_a_fine_grid():
    """The same minimum by quadrature: Gauss-Legendre between the snapshots, where profiles are smooth."""
    steps, widths, at, width = [100, 100, 250, 250, 400, 400], [*WIDTHS] * 3, 400, 0.13
    nodes, gauss = np.polynomial.legendre.leggauss(40)
    edges = np.array([0.0, 100.0, 250.0, 400.0])
    tau = np.concatenate([(b - a) / 2 * nodes + (a + b) / 2 for a, b in itertools.pairwise(edges)])
    root = np.sqrt(np.concatenate([(b - a) / 2 * gauss for a, b in itertools.pairwise(edges)]))

    def profile(s, w):
        gamma = averages.gamma_of_width(w)
        return np.where(tau < s, (gamma + 1) * (tau / s) ** gamma / s, 0.0) * root

    matrix, target = np.stack([profile(s, w) for s, w in zip(steps, widths, strict=True)], 1), profile(at, width)
    # Of weights that sum to 1 the last is what the others leave.
    free = np.linalg.lstsq(matrix[:, :-1] - matrix[:, -1:], target - matrix[:, -1], rcond=None)[0]
    expected = np.append(free, 1 - free.sum())
    found = posthoc_ema.solve(steps, widths, at, width)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-8)
    error = np.linalg.norm(matrix @ expected - target) / np.linalg.norm(target)
    np.testing.assert_allclose(found.error, error, rtol=1e-8)


def test_a_snapshots_own_average_is_that_snapshot():
    steps, widths = [s for s in range(100, 2100, 100) for _ in WIDTHS], list(WIDTHS) * 20
    found = posthoc_ema.solve(steps, widths, 1500, 0.1)
    np.testing.assert_allclose(found.weights, (np.array(steps) == 1500) * (np.array(widths) == 0.1), atol=1e-9)
    assert found.error < 1e-7


def test_it_does_not_depend_on_the_unit_of_time_and_bears_long_trainings_and_many_snapshots():
    steps, widths = np.arange(1, 301).repeat(2), list(WIDTHS) * 300
    short, long = (posthoc_ema.solve([int(s) for s in steps * u], widths, 300 * u, 0.15) for u in (1, 10**9))
    assert np.all(np.isfinite(long.weights))
    assert long.error < 1e-4
    np.testing.assert_allclose(long.weights, short.weights, atol=1e-6)
    assert np.abs(long.weights).sum() < 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: averages.power(0.0), r"relative_width = 0\.0"),
        (lambda: averages.power(-0.1), r"relative_width = -0\.1"),
        (lambda: averages.power(12**-0.5), r"relative_width = 0\.288675"),
        (lambda: averages.power(math.nan), "relative_width = nan"),
        (lambda: posthoc_ema.solve([], [], 10, 0.1), "lengths 0, 0"),
        (lambda: posthoc_ema.solve([5], [0.1, 0.05], 10, 0.1), "lengths 1, 2"),
        (lambda: posthoc_ema.solve([0], [0.1], 10, 0.1), "step = 0"),
        (lambda: posthoc_ema.solve([5], [0.1], 10, 0.5), r"relative_width = 0\.5"),
    ],
)
def test_power_functions_refuse_what_is_none(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---------------------------------------------------------------------------------- a run's snapshots

NETWORK = MLP(width=8, num_blocks=1)
STEPS, EVERY, OTHER = 240, 20, 0.075


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as training leaves it, but for its parameters, which wander at random: with snapshots of two widths, and,
    to compare with, the exact average of a third after every snapshot.
    """
    directory = tmp_path_factory.mktemp("runs") / "wandering"
    opened = create_run(directory)
    config = Config(
        data=DataConfig("gaussians"),
        network=NETWORK,
        train=TrainConfig(steps=STEPS, ema_widths=WIDTHS, snapshot_every=EVERY),
    )
    write_config(
        opened,
        {
            "config": to_json(config),
            "data": {"shape": [2], "num_classes": 0, "class_names": [], "augmentation_labels": 0},
        },
    )
    params = jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))
    rng = np.random.default_rng(0)
    exact = {}

    @jax.jit
    def advance(params, averages, number):
        def named(width):
            return averages.update(averages[averages.power_name(width)], params, averages.power(width)(number))

        return {averages.power_name(width): named(width) for width in (*WIDTHS, OTHER)}

    averages = {averages.power_name(width): params for width in (*WIDTHS, OTHER)}
    with Checkpoints(directory / "snapshots", keep=100) as snapshots, Checkpoints(directory / "checkpoints") as saved:
        for number in range(1, STEPS + 1):
            params = jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape).astype(np.float32), params)
            averages = advance(params, averages, number)
            if number % EVERY == 0:
                exact[number] = averages[averages.power_name(OTHER)]
                snapshots.save(number, {name: averages[name] for name in map(averages.power_name, WIDTHS)})
        named = {name: averages[name] for name in map(averages.power_name, WIDTHS)}
        saved.save(STEPS, {"params": params, "ema": {"ema": params, **named}})
    return directory, params, named, exact


def assert_near(found, wanted, within):
    """The largest difference of two trees of parameters."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=within), found, wanted)


def test_a_width_that_was_not_kept_is_made_of_snapshots(run):
    """Walks of step 0.1 are about 0.4 from their average of this width; the profile is missed by half a percent."""
    directory, params, _, exact = run
    for step in (None, 120):
        model = jd.load(directory, ema=OTHER, step=step)
        wanted = exact[step or STEPS]
        assert model.step == (step or STEPS)
        assert jax.tree.leaves(model.params)[0].dtype == jnp.float32
        assert_near(model.params, wanted, 0.02)
    apart = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(wanted), strict=True)]
    assert max(apart) > 0.5


def test_a_width_that_was_kept_is_itself(run):
    directory, _, kept, _ = run
    for width in WIDTHS:
        assert_near(jd.load(directory, ema=width).params, kept[averages.power_name(width)], 1e-5)
        jax.tree.map(
            np.testing.assert_array_equal,
            jd.load(directory, ema=averages.power_name(width)).params,
            kept[averages.power_name(width)],
        )


def test_an_average_can_be_kept_and_named(run, capsys):
    from scripts import ema as script

    directory, _, _, exact = run
    with pytest.raises(ValueError, match=r"ema = 'power_0\.075'; the run has ema, power_0\.05, power_0\.1$"):
        jd.load(directory, ema="power_0.075")
    for step in (STEPS, 120):  # the second takes the place of the first
        script.main(directory, OTHER, step)
        assert f'"step": {step}' in capsys.readouterr().out
        model = jd.load(directory, ema="power_0.075")
        assert model.step == step
        assert_near(model.params, exact[step], 0.02)
        jax.tree.map(np.testing.assert_array_equal, model.params, jd.load(directory, ema=OTHER, step=step).params)
    with pytest.raises(ValueError, match="has no checkpoint of step 240; there are: 120"):
        jd.load(directory, ema="power_0.075", step=STEPS)
    with pytest.raises(ValueError, match=r"width = 0\.1; the run has power_0\.1 already"):
        script.main(directory, 0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ema": 0.4}, r"relative_width = 0\.4; allowed"),
        ({"ema": 1}, "relative_width = 1; allowed"),
        ({"ema": 0.01}, r"ema = 0\.01; widths 0\.05, 0\.1 at 12 steps give it with an error of \d\d%"),
        ({"ema": 0.075, "step": 130}, "step = 130; allowed are those of the snapshots: 20, 40, 60"),
        ({"ema": "power_0"}, "ema = 'power_0'; the run has ema, power_0.05"),
        ({"ema": ""}, "ema = ''; the run has ema"),
    ],
)
def test_what_snapshots_cannot_give_is_one_line(run, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        jd.load(run[0], **arguments)
    assert "\n" not in str(error.value)


def test_a_run_without_snapshots_says_so(run, tmp_path):
    (tmp_path / "config.json").write_bytes((run[0] / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"has none; train with train\.ema_widths and train\.snapshot_every"):
        jd.load(tmp_path, ema=0.075)


def test_combining_sums_in_float64_and_one_at_a_time():
    alive = []

    def trees():
        for value in (2.0**30, 1.0, -(2.0**30)):
            alive.append(value)
            yield {"a": np.full(3, value, np.float32), "b": {"c": np.float32(value)}}

    found = posthoc_ema.combine([1.0, 1.0, 1.0], trees())
    assert alive == [2.0**30, 1.0, -(2.0**30)]
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, np.ones_like(leaf)), found)
    assert found["a"].dtype == np.float32
