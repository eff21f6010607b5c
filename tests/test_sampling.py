"""Sampling with a tableau: in pieces, compilation, memory, randomness, pytrees, errors."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES, mixture
from compiler import optimised_jit

import jaxdiff as jd
from jaxdiff import grids, parametrizations, solvers

PROCESS = PROCESSES["vp_linear"]
KEY = jax.random.key(0)


def _noise(batch=8, key=KEY):
    return jd.prior_sample(key, PROCESS, (batch, 2))


ADVANCE, FINISH, SAMPLE = (optimised_jit(f) for f in (jd.sampling.advance, jd.sampling.finish, jd.sample))


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (lambda p: solvers.ddpm(p, 6), [KEY, jax.random.split(KEY, 8)]),
        (lambda p: solvers.heun(p, 5), [KEY]),  # draws nothing; the first cut lies between the stages of a step
        (lambda p: solvers.dpm_solver_pp(p, 6, order=3, tau=0.5), [KEY]),
    ],
)
def test_in_pieces_to_the_bit(make, keys):
    """Samples are bit for bit the same wherever the tableau is cut, with one key or one key per example."""
    tableau, denoiser, x = make(PROCESS), mixture(PROCESS), _noise()
    length = len(tableau) // 3  # pieces of one length share a program
    assert length * 3 == len(tableau)
    for key in keys:
        state = jd.sampling.start(key, x, tableau)
        for low in (0, length, 2 * length):
            state = ADVANCE(denoiser, state, tableau[low : low + length])
        whole = SAMPLE(key, denoiser, x, tableau)
        np.testing.assert_array_equal(FINISH(state, tableau[2 * length :]), whole)
        assert int(state.index) == len(tableau)


def test_going_on_with_another_denoiser():
    """Half-way to one class, then to another: with exact denoisers of single points, the last denoiser decides."""
    times = np.append(grids.uniform_time(PROCESS, 6)[:-1], PROCESS.t_clean)
    tableau = solvers.ddim(PROCESS, times)
    one, other = (jd.denoisers.gaussian(PROCESS, mean, 0.0) for mean in (-1.0, 2.0))
    state = jd.sampling.start(KEY, _noise(), tableau)
    state = jd.sampling.advance(one, state, tableau[:4])
    state = jd.sampling.advance(other, state, tableau[4:])
    np.testing.assert_allclose(jd.sampling.finish(state, tableau[4:]), 2.0, atol=1e-4)


def test_the_trajectory_of_no_evaluation_is_empty():
    """Its leaves have the axis of evaluations, so that pieces of a trajectory can be joined."""
    process = jd.processes.edm()
    tableau, x = jd.solvers.heun(process, 3), jnp.ones((2, 3))
    _, path = jd.sample(KEY, jd.denoisers.gaussian(process), x, tableau[:0], trajectory=True)
    assert jax.tree.map(jnp.shape, path) == ((0, 2, 3), jd.Estimate((0, 2, 3), (0, 2, 3)))


def test_trajectory_holds_the_points_and_the_estimates():
    tableau = solvers.ddim(PROCESS, grids.uniform_time(PROCESS, 5))
    denoiser, x = mixture(PROCESS), _noise()
    out, (points, estimates) = jax.jit(jd.sample, static_argnames="trajectory")(
        KEY, denoiser, x, tableau, trajectory=True
    )
    assert points.shape == estimates.x0.shape == (5, 8, 2)
    np.testing.assert_array_equal(points[0], x)
    for i in range(5):
        np.testing.assert_allclose(estimates.x0[i], denoiser(points[i], tableau.times[i]).x0, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, jax.jit(jd.sample)(KEY, denoiser, x, tableau), rtol=1e-6, atol=1e-6)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, t, cond):
        h = nn.Dense(8)(jnp.concatenate([x, t[:, None] / 1000], 1)) + nn.Embed(3, 8)(cond)
        return nn.Dense(2)(nn.silu(h))


def test_one_compilation_for_solvers_of_one_shape_grids_parameters_and_scales():
    network, traced = Network(), []
    times = grids.uniform_log_snr(PROCESS, 6)
    labels = jnp.zeros(8, jnp.int32)

    def apply(params, x, t, cond):
        traced.append(None)
        return network.apply(params, x, t, cond)

    sample = jax.jit(lambda *args: jd.sample(*args))  # a function of its own: the cache belongs to the function

    def run(seed, tableau, scale, cond=labels):
        params = network.init(jax.random.key(seed), jnp.ones((1, 2)), jnp.ones(1), cond[:1])
        made = [
            jd.denoisers.from_network(PROCESS, parametrizations.v(), apply, params, c) for c in (cond, cond * 0 + 2)
        ]
        return np.asarray(sample(KEY, jd.guidance.classifier_free(*made, scale), _noise(), tableau))

    first = run(0, solvers.ddim(PROCESS, times), 2.0)
    once = len(traced)
    others = [
        run(0, solvers.euler(PROCESS, times), 2.0),
        run(0, solvers.dpm_solver_pp(PROCESS, times, order=1), 2.0),
        run(0, solvers.ddim(PROCESS, grids.uniform_time(PROCESS, 6)), 2.0),
        run(1, solvers.ddim(PROCESS, times), 2.0),
        run(0, solvers.ddim(PROCESS, times), 0.5),
        run(0, solvers.ddim(PROCESS, times), 2.0, labels + 1),
    ]
    assert len(traced) == once
    np.testing.assert_allclose(others[0], first, rtol=1e-6)
    for other in others[2:]:
        assert np.abs(other - first).max() > 1e-3  # the executable was shared, the numbers were not
    run(0, solvers.dpm_solver_pp(PROCESS, times, order=2), 2.0)
    assert len(traced) == 2 * once


def test_memory_does_not_grow_with_steps():
    denoiser, x = mixture(PROCESS), jnp.zeros((256, 2))
    sizes = []
    for steps in (10, 1000):
        tableau = solvers.dpm_solver_pp(PROCESS, grids.uniform_log_snr(PROCESS, steps), order=3, tau=0.5)
        memory = jax.jit(jd.sample).lower(KEY, denoiser, x, tableau).compile().memory_analysis()
        table = sum(np.asarray(leaf, np.float32).nbytes for leaf in jax.tree.leaves(tableau))
        sizes.append((memory.temp_size_in_bytes, memory.output_size_in_bytes, memory.argument_size_in_bytes - table))
    # Nothing is longer but the table itself, which is an argument.
    np.testing.assert_allclose(sizes[1], sizes[0], atol=64)


PROGRAM = """
import numpy as np, jax, jaxdiff as jd
from jax.sharding import NamedSharding, PartitionSpec
devices = jax.devices()
assert len(devices) == 8
process = jd.processes.vp_linear()
times = jd.grids.uniform_log_snr(process, 15)
rng = np.random.default_rng(0)
sample = jax.jit(jd.sample)
keys = jax.random.split(jax.random.key(0), 64)
sizes = ((64, True), (7, False), (1, False), (64, False))
cases = (
    ((2,), jd.solvers.heun, sizes[:2]),
    ((8, 8, 1), lambda p, t: jd.solvers.dpm_solver_pp(p, t, order=2, tau=0.5), sizes),
)
for event, solver, sizes in cases:
    denoiser = jd.denoisers.gaussian_mixture(process, [0.5, 0.3, 0.2], rng.normal(size=(3, *event)), [0.4, 0.8, 2.0])
    tableau = solver(process, times)
    for size, spread in sizes:
        parts = []
        for start in range(0, 64 - 64 % size, size):
            key = keys[start : start + size]
            x = jd.prior_sample(key, process, (size, *event))
            if spread:
                sharding = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
                key, x = jax.device_put((key, x), sharding)
            parts.append(sample(key, denoiser, x, tableau))
            assert len(parts[-1].sharding.device_set) == (8 if spread else 1)
        print(np.concatenate(parts)[:63].tobytes().hex())
"""


def test_sample_i_does_not_depend_on_its_batch_nor_on_the_devices():
    """Samples are bit-equal in batches of 1, 7 and 64 on one device and of 64 on eight, for the denoiser of a mixture.

    All arithmetic is elementwise, in an order that the code fixes. The compiler has one freedom: where to contract
    `a b + c` to a fused multiply-add, which XLA on CPUs decides by the shape of the array. The flag for a CPU without
    this instruction takes the freedom away.
    """
    flags = "--xla_force_host_platform_device_count=8 --xla_cpu_max_isa=AVX"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert [len(line) for line in lines] == [2 * 4 * 63 * 2] * 2 + [2 * 4 * 63 * 64] * 4
    assert len({*lines[:2]}) == len({*lines[2:]}) == 1


def test_sample_i_follows_its_key_whatever_the_instructions():
    """With the machine's own instructions, samples are equal up to the rounding of a few multiply-adds."""
    tableau, denoiser = solvers.ddpm(PROCESS, grids.uniform_log_snr(PROCESS, 15)), mixture(PROCESS)
    keys = jax.random.split(KEY, 64)
    sample = jax.jit(jd.sample)
    whole = np.asarray(sample(keys, denoiser, _noise(64, keys), tableau))
    part = sample(keys[14:21], denoiser, _noise(7, keys[14:21]), tableau)
    np.testing.assert_allclose(part, whole[14:21], rtol=1e-4, atol=1e-5)
    single = np.asarray(sample(KEY, denoiser, _noise(64, keys), tableau))
    assert np.abs(single - whole).max() > 0.1


def test_pytree_data():
    process = PROCESSES["edm"]
    shape = {"a": jnp.zeros((6, 3)), "b": jnp.zeros((6, 2, 2))}
    denoiser = jd.denoisers.gaussian(process, {"a": 1.0, "b": -1.0}, {"a": 0.0, "b": 0.0})
    noise = jd.prior_sample(KEY, process, shape)
    for make in (solvers.ddpm, solvers.heun):
        got = jd.sample(KEY, denoiser, noise, make(process, grids.karras(process, 5)))
        np.testing.assert_allclose(got["a"], 1.0, atol=1e-3)
        np.testing.assert_allclose(got["b"], -1.0, atol=1e-3)


def test_state_is_float32_whatever_the_network_computes_in():
    def network(params, x, t):
        return (x * 0.5).astype(jnp.bfloat16)

    denoiser = jd.denoisers.from_network(PROCESS, parametrizations.v(), network, None)
    x = _noise().astype(jnp.bfloat16)
    out = jax.eval_shape(jd.sample, KEY, denoiser, x, solvers.dpm_solver_pp(PROCESS, grids.uniform_log_snr(PROCESS, 3)))
    assert out.dtype == jnp.float32


def test_vmap_over_guidance_scales_and_gradient_of_the_tableau(x64):
    times = grids.uniform_log_snr(PROCESS, 5)
    tableau, x = solvers.ddim(PROCESS, times), jnp.ones((2, 2))
    one, other = mixture(PROCESS), jd.denoisers.gaussian(PROCESS, 0.0, 1.0)

    @jax.jit
    def at(scale):
        return jd.sample(KEY, jd.guidance.classifier_free(one, other, scale), x, tableau)

    together = jax.vmap(at)(jnp.array([0.0, 1.0, 3.0]))

    for i, scale in enumerate((0.0, 1.0, 3.0)):
        np.testing.assert_allclose(together[i], at(scale), rtol=1e-5)

    def functional(table):
        return jnp.sum(jd.sample(KEY, one, x, table) ** 2)

    of_table = jax.jit(jax.value_and_grad(functional))
    _, gradient = of_table(jax.tree.map(jnp.asarray, tableau))
    h = 1e-6
    bumped = [
        jd.Tableau(
            tableau.process,
            tableau.times,
            tableau.state + d * (np.arange(6)[:, None, None] == 2),
            tableau.noise,
            tableau.history_target,
        )
        for d in (h, -h)
    ]
    numeric = (of_table(bumped[0])[0] - of_table(bumped[1])[0]) / (2 * h)
    np.testing.assert_allclose(gradient.state[2].sum(), numeric, rtol=1e-5)

    of_times = jax.jit(jax.value_and_grad(lambda times: functional(solvers.dpm_solver_pp(PROCESS, times, order=2))))
    bump = np.zeros(6)
    bump[3] = h
    numeric = (of_times(times + bump)[0] - of_times(times - bump)[0]) / (2 * h)
    np.testing.assert_allclose(of_times(times)[1][3], numeric, rtol=1e-4)


def test_old_style_keys():
    tableau, denoiser, x = solvers.ddpm(PROCESS, grids.uniform_time(PROCESS, 3)), mixture(PROCESS), _noise()
    np.testing.assert_array_equal(
        jd.sample(jax.random.key_data(KEY), denoiser, x, tableau), jd.sample(KEY, denoiser, x, tableau)
    )


TABLEAU = solvers.ddim(PROCESS, grids.uniform_time(PROCESS, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jd.sample(KEY, mixture(PROCESSES["edm"]), _noise(), TABLEAU), ValueError, "EDM.*VPLinear"),
        (lambda: jd.sample(KEY, mixture(jd.processes.vp_linear(beta_max=9.0)), _noise(), TABLEAU), ValueError, r"9\.0.*20\.0"),
        (lambda: jax.jit(jd.sample)(KEY, mixture(PROCESSES["edm"]), _noise(), TABLEAU), ValueError, "EDM.*VPLinear"),
        (lambda: jd.sample(0, mixture(PROCESS), _noise(), TABLEAU), TypeError, "key = 0"),
        (lambda: jd.sample(jax.random.split(KEY, 3), mixture(PROCESS), _noise(), TABLEAU), ValueError, r"\(3,\).*\(8,\)"),
        (lambda: jd.sample(KEY, mixture(PROCESS), jnp.ones((8, 5)), TABLEAU), ValueError, r"\(8, 5\)"),
        (lambda: jd.sample(KEY, mixture(PROCESS), jnp.ones((8, 2), int), TABLEAU), TypeError, "int"),
        (lambda: jd.sample(KEY, mixture(PROCESS), jnp.ones(()), TABLEAU), ValueError, "batch axis"),
        (lambda: jd.sample(KEY, mixture(PROCESS), {"a": jnp.ones((2, 1)), "b": jnp.ones((3, 1))}, TABLEAU), ValueError, "share"),
        (lambda: jd.sample(KEY, mixture(PROCESS), _noise(), "ddim"), TypeError, "tableau = 'ddim'"),
        (lambda: jd.sample(KEY, lambda x, t: x, _noise(), TABLEAU), TypeError, "callables with a process"),
        (lambda: jd.sampling.advance(mixture(PROCESS), jd.sampling.start(KEY, _noise(), TABLEAU),
                                     solvers.heun(PROCESS, grids.uniform_time(PROCESS, 3))), ValueError, "cut from one tableau"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_piece_of_nothing_changes_nothing():
    state = jd.sampling.start(KEY, _noise(), TABLEAU)
    assert jd.sampling.advance(mixture(PROCESS), state, TABLEAU[:0]) is state
