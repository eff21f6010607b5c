"""A compiled sampler as a file of bytes, run by a process that has no jaxdiff."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from common import PROCESSES

import jaxdiff as jd
from jaxdiff import grids, parametrizations, solvers

PROCESS = PROCESSES["flow"]

PROGRAM = """
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "jaxdiff":
            raise ImportError("jaxdiff is not here")


sys.meta_path.insert(0, Refuse())
import jax
import numpy as np

path, *names = sys.argv[1:]
sampler = jax.export.deserialize(open(path, "rb").read())
for name in names:
    with np.load(name) as given:
        count = sum(key.startswith("in") for key in given)
        arguments = [given[f"in{i}"] for i in range(count)]
    np.save(name + ".out.npy", sampler.call(*arguments))
assert "jaxdiff" not in sys.modules
try:
    import jaxdiff
except ImportError:
    print("ran without")
"""


def _network(params, x, t):
    return jnp.tanh(x @ params + jnp.sin(t / 1000)[:, None])


def _sample(key, params, x, *table):
    """Plain arrays in, plain arrays out: what is static (process, network, parametrization) is inside."""
    denoiser = jd.denoisers.from_network(PROCESS, parametrizations.velocity(), _network, params)
    return jd.sample(jax.random.wrap_key_data(key), denoiser, x, jd.Tableau(PROCESS, *table))


def _table(tableau):
    columns = (tableau.times, tableau.state, tableau.noise, tableau.history_target)
    return [np.asarray(column, np.float32) for column in columns]


def test_an_exported_sampler_runs_without_the_library(tmp_path):
    """One artefact serves any number of examples, other parameters, and every solver of one shape."""
    made = solvers.dpm_solver_pp(PROCESS, grids.uniform_time(PROCESS, 6), tau=0.5)
    other = solvers.dpm_solver_pp(PROCESS, grids.uniform_time(PROCESS, 6) ** 1.5, tau=1.0)
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [((2,), np.uint32), ((2, 2), np.float32), ((batch, 2), np.float32)]
    shapes += [(column.shape, column.dtype) for column in _table(made)]
    sample = jax.jit(_sample)
    exported = jax.export.export(sample)(*[jax.ShapeDtypeStruct(*shape) for shape in shapes])
    (tmp_path / "sampler").write_bytes(exported.serialize())

    rng, cases = np.random.default_rng(0), []
    for i, (size, tableau) in enumerate([(1, made), (5, made), (5, other)]):
        key = np.asarray(jax.random.key_data(jax.random.key(i)))
        arguments = [key, *(rng.normal(size=shape).astype(np.float32) for shape in [(2, 2), (size, 2)])]
        arguments += _table(tableau)
        path = tmp_path / f"{i}.npz"
        np.savez(path, **{f"in{j}": argument for j, argument in enumerate(arguments)})
        cases.append((path, arguments))

    # -I: neither the working directory nor PYTHONPATH is searched.
    environment = {"JAX_PLATFORMS": "cpu", "PATH": os.environ.get("PATH", "")}
    command = [sys.executable, "-I", "-c", PROGRAM, str(tmp_path / "sampler"), *(str(path) for path, _ in cases)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ran", "without"]
    found = [np.load(f"{path}.out.npy") for path, _ in cases]
    for got, (_, arguments) in zip(found, cases, strict=True):
        want = np.asarray(sample(*arguments))
        assert got.dtype == want.dtype
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert np.abs(found[1] - found[2]).max() > 0.1


def test_an_export_of_fixed_shapes_is_the_jitted_sampler_to_the_bit():
    tableau = _table(solvers.heun(PROCESS, grids.uniform_time(PROCESS, 4), coordinate="flow"))
    arguments = [
        jax.random.key_data(jax.random.key(0)),
        np.eye(2, dtype=np.float32),
        np.ones((3, 2), np.float32),
        *tableau,
    ]
    sample = jax.jit(_sample)
    again = jax.export.deserialize(jax.export.export(sample)(*arguments).serialize())
    np.testing.assert_array_equal(again.call(*arguments), sample(*arguments))
