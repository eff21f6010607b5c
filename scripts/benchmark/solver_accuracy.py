"""Error against evaluations on a mixture with a known answer: `python scripts/benchmark/solver_accuracy.py`.

Each sampler draws 5,000 points in the plane, in float32, with the exact denoiser of the mixture in `exact_mixture`. All
samplers start from the same noise, scaled to the first noise level of their process and grid. The error of a
deterministic sampler is the root mean squared distance to the solution of the probability-flow ODE from the same noise
(DOP853 at 1e-10, in float64). The error of a stochastic sampler is the sliced Wasserstein-1 distance to as many draws
from the mixture. The columns are evaluations of the denoiser. Heun's method, with two evaluations per step, makes 5, 9,
19 and 49.

In the environment that `make_environment.py peers` makes, the tables also show diffusers and k-diffusion, measured in
the same run. They always show figures published for such a mixture. Another table has our best deterministic sampler
for each number of evaluations, chosen on some noise and measured on other noise. The last table has the defaults of
`jaxdiff.generate` on every process.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import exact_mixture
import jax
import jax.numpy as jnp
import machine
import numpy as np
import peers

import jaxdiff as jd
from jaxdiff import checks, grids, processes, solvers
from jaxdiff.cli import command_line
from jaxdiff.grids.own import own
from jaxdiff.processes import Process
from jaxdiff.sampling.generate import default_solver

EVALUATIONS = (5, 10, 20, 50)
Solver = Callable[[Process, Any], jd.Tableau]
Grid = Callable[[Process, int], Any]

# Published errors of public samplers on a mixture of this kind.
PUBLISHED: dict[tuple[str, str], tuple[float, ...]] = {
    ("VP trailing", "DDIM"): (0.346, 0.184, 0.098, 0.054),
    ("VP trailing", "DPM++2M"): (0.340, 0.164, 0.071, 0.036),
    ("VP trailing", "UniPC-2"): (0.338, 0.161, 0.072, 0.036),
    ("VP trailing", "DEIS-2"): (0.333, 0.164, 0.112, 0.025),
    ("VP trailing", "DDPM"): (0.208, 0.110, 0.050, 0.021),
    ("VP trailing", "SDE-DPM++2M"): (0.205, 0.085, 0.023, 0.016),
    ("Karras", "Euler"): (0.293, 0.195, 0.120, 0.063),
    ("Karras", "Heun"): (3.54, 0.997, 0.147, 0.023),
    ("Karras", "LMS"): (0.278, 0.146, 0.060, 0.0086),
    ("Karras", "DPM++2M"): (0.190, 0.119, 0.045, 0.0125),
    ("Karras", "UniPC-2"): (0.191, 0.123, 0.032, 0.0073),
    ("Karras", "UniPC-3"): (0.194, 0.261, 0.064, 0.0042),
    ("exponential", "DPM++2M"): (0.289, 0.091, 0.032, 0.0083),
    ("EDM rho 7", "Heun"): (2.09, 1.00, 0.112, 0.024),
    ("EDM rho 7", "DPM++2M"): (0.297, 0.154, 0.041, 0.0117),
    ("flow", "Euler"): (0.205, 0.110, 0.069, 0.036),
    ("flow", "Heun"): (0.258, 0.133, 0.036, 0.0076),
    ("flow", "DPM++2M"): (0.133, 0.050, 0.031, 0.0057),
}

VP, EDM, FLOW = processes.vp_discrete(), processes.edm(), processes.flow()
PAIRS: dict[str, tuple[Process, Grid]] = {
    "VP trailing": (VP, grids.discrete),
    "Karras": (VP, grids.karras),
    "exponential": (VP, grids.exponential),
    "EDM rho 7": (EDM, grids.karras),
    "flow": (FLOW, grids.uniform_time),
}

_2m = functools.partial(solvers.dpm_solver_pp, variant="midpoint")
_flow_heun = functools.partial(solvers.heun, coordinate="flow")

OURS: dict[tuple[str, str], Solver] = {
    ("VP trailing", "DDIM"): solvers.ddim,
    ("VP trailing", "DPM++2M"): _2m,
    ("VP trailing", "UniPC-2"): solvers.uni_pc,
    ("VP trailing", "DEIS-2"): functools.partial(solvers.deis, order=2),
    ("VP trailing", "DDPM"): solvers.ddpm,
    ("VP trailing", "SDE-DPM++2M"): functools.partial(_2m, tau=1.0),
    ("VP trailing", "SA-Solver"): solvers.sa_solver,
    ("Karras", "Euler"): solvers.euler,
    ("Karras", "Heun"): solvers.heun,
    ("Karras", "LMS"): solvers.lms,
    ("Karras", "DPM++2M"): _2m,
    ("Karras", "UniPC-2"): solvers.uni_pc,
    ("Karras", "UniPC-3"): functools.partial(solvers.uni_pc, order=3),
    ("exponential", "DPM++2M"): _2m,
    ("EDM rho 7", "Heun"): solvers.heun,
    ("EDM rho 7", "DPM++2M"): _2m,
    ("flow", "Euler"): solvers.euler,
    ("flow", "Heun"): _flow_heun,
    ("flow", "DPM++2M"): _2m,
}
STOCHASTIC = ("DDPM", "SDE-DPM++2M", "SA-Solver")


def main(points: int = 5000, seed: int = 0) -> None:
    """Measures the errors and prints tables in Markdown.

    Args:
      points: the number of points that are sampled.
      seed: the seed of the noise.
    """
    checks.integer("points", points, least=2)
    print(machine.describe())
    board = Board(points, seed)
    beside = {"diffusers": peers.diffusers_samplers(), "k-diffusion": peers.k_diffusion_samplers()}
    floor = exact_mixture.sliced_wasserstein(board.data, exact_mixture.data(seed + 10_001, points))
    print(f"\nSliced W1 between two sets of draws, the best that a stochastic sampler can reach: {floor:.4f}\n")
    print(f"| grid | sampler | by |{_cells(EVALUATIONS)}\n|---|---|---|{'---|' * len(EVALUATIONS)}")
    seen: dict[str, list[tuple[float, ...]]] = {"published": list(_deterministic(PUBLISHED).values())}
    for key, solver in OURS.items():
        name = key[1] + (" (W1)" if key[1] in STOCHASTIC else "")
        rows = {"ours": board.row(*key, _runner(*PAIRS[key[0]], solver))}
        rows |= {who: board.row(*key, samplers[key]) for who, samplers in beside.items() if key in samplers}
        if key in PUBLISHED:
            rows["published"] = PUBLISHED[key]
        for who, row in rows.items():
            print(f"| {key[0]} | {name} | {who} |{_cells(row)}", flush=True)
            if who in beside and key[1] not in STOCHASTIC:
                seen.setdefault(who, []).append(row)

    print(f"\n| the best of | |{_cells(EVALUATIONS)}\n|---|---|{'---|' * len(EVALUATIONS)}")
    for who, entries in seen.items():
        print(f"| {who} | |{_cells(np.nanmin(entries, axis=0))}")
    chosen, measured = [], []
    trial = Board(points, seed + 1)
    for steps in EVALUATIONS:
        found = {label: trial.error(label, runner, steps) for label, runner in candidates().items()}
        label = min(found, key=lambda label: found[label] if np.isfinite(found[label]) else np.inf)
        chosen.append(label)
        measured.append(board.error(label, candidates()[label], steps))
    print(f"| ours | chosen on other noise |{_cells(measured)}")
    print(f"| ours | {RECOMMENDED} |{_cells([board.error('', candidates()[RECOMMENDED], n) for n in EVALUATIONS])}\n")
    for steps, label in zip(EVALUATIONS, chosen, strict=True):
        print(f"- {steps}: {label}")
    print_defaults(board)


def print_defaults(board: "Board") -> None:
    """Prints the errors of the defaults of `jaxdiff.generate` on every process."""
    print(f"\n| defaults of `generate` |{_cells(EVALUATIONS)}\n|---|{'---|' * len(EVALUATIONS)}")
    for name in ("vp_linear", "sub_vp", "vp_cosine", "vp_nichol", "vp_discrete", "ve", "edm", "flow", "trigonometric"):
        print(f"| `{name}` |{_cells(board.row('', name, _default(getattr(processes, name)())))}", flush=True)
    learned = processes.on_host(processes.learned(jax.random.key(0)))
    print(f"| `learned` |{_cells(board.row('', 'learned', _default(learned)))}", flush=True)


def _default(process: Process) -> peers.Runner:
    return _runner(process, own, default_solver)


def _cells(values: Iterable[float]) -> str:
    return "".join(f" {value:.3g} |" for value in values)


def _deterministic(table: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {key: value for key, value in table.items() if key[1] not in STOCHASTIC}


class Board:
    """The initial noise, and the right answers for it."""

    def __init__(self, points: int, seed: int) -> None:
        self.noise = np.random.default_rng(seed).normal(size=(points, 2))
        self.data = exact_mixture.data(seed + 10_000, points)
        self._ends: dict[tuple[float, ...], np.ndarray] = {}

    def error(self, name: str, run: peers.Runner, evaluations: int) -> float:
        """The error of one sampler: the distance to the solution of the ODE, or to the data in distribution."""
        result = run(self.noise, evaluations)
        if name in STOCHASTIC:
            return exact_mixture.sliced_wasserstein(result.samples, self.data)
        start = (result.scale, result.alpha, result.sigma)
        if start not in self._ends:
            self._ends[start] = exact_mixture.solution(result.scale * self.noise, result.alpha, result.sigma)
        return exact_mixture.distance(result.samples, self._ends[start])

    def row(self, grid: str, name: str, run: peers.Runner) -> tuple[float, ...]:
        return tuple(self.error(name, run, n) for n in EVALUATIONS)


_sample = jax.jit(jd.sample)


def _runner(process: Process, grid: Grid, solver: Solver) -> peers.Runner:
    """One of our samplers, with as many steps as the evaluations allow."""

    def run(noise: np.ndarray, evaluations: int) -> peers.Run:
        tableau = solver(process, grid(process, evaluations))
        if len(tableau) > evaluations:
            tableau = solver(process, grid(process, (evaluations + 1) // 2))
        alpha, sigma = float(process.alpha(np.float64(process.t_max))), float(process.sigma(np.float64(process.t_max)))
        x = jnp.asarray(sigma * noise, jnp.float32)
        samples = _sample(jax.random.key(0), exact_mixture.denoiser(process), x, tableau)
        return peers.Run(sigma, alpha, sigma, np.asarray(samples))

    return run


# ------------------------------------------------------------------------------- our best

RECOMMENDED = "flow, polynomial(rho=2), exponential(order=2, prediction='velocity', corrector_order=3)"


def _to_the_end(grid: Grid) -> Grid:
    """The grid with a last step to no noise at all."""
    return lambda process, steps: np.append(grid(process, steps)[:-1], process.t_clean)


def _gits(process: Process, steps: int) -> Any:
    noise = np.random.default_rng(2).normal(size=(256, 2)) * float(process.sigma(np.float64(process.t_max)))
    return grids.gits(process, steps, exact_mixture.denoiser(process), jnp.asarray(noise, jnp.float32))


@functools.cache
def candidates() -> dict[str, peers.Runner]:
    """Our deterministic samplers: every process with each of its grids and each solver."""
    velocity = functools.partial(solvers.exponential, prediction="velocity")
    methods: dict[str, Solver] = {
        "ddim()": solvers.ddim,
        "heun(coordinate='flow')": _flow_heun,
        **{f"dpm_solver_pp(order={q})": functools.partial(solvers.dpm_solver_pp, order=q) for q in (2, 3)},
        **{f"uni_pc(order={q})": functools.partial(solvers.uni_pc, order=q) for q in (2, 3)},
        **{
            f"exponential(order={q}, prediction='velocity', corrector_order={q + 1})": functools.partial(
                velocity, order=q, corrector_order=q + 1
            )
            for q in (1, 2, 3, 4)
        },
        **{
            f"exponential(order={q}, corrector_order={q + 1})": functools.partial(
                solvers.exponential, order=q, corrector_order=q + 1
            )
            for q in (1, 2, 3)
        },
    }
    signal = {  # methods that need some signal at the start
        **{f"deis(order={q})": functools.partial(solvers.deis, order=q) for q in (3, 4)},
        **{f"ipndm(order={q})": functools.partial(solvers.ipndm, order=q) for q in (3, 4)},
    }
    spacings: dict[str, Grid] = {
        "uniform_time": _to_the_end(grids.uniform_time),
        "polynomial(rho=1.5)": _to_the_end(functools.partial(grids.polynomial, rho=1.5)),
        "polynomial(rho=2)": _to_the_end(grids.polynomial),
        "gits": _to_the_end(functools.cache(_gits)),
    }
    vp = processes.vp_linear()
    pairs: list[tuple[str, Process, str, Grid]] = [("flow", FLOW, name, grid) for name, grid in spacings.items()]
    pairs += [("vp_linear", vp, name, grid) for name, grid in spacings.items()]
    pairs += [("vp_linear", vp, "karras", grids.karras)]
    pairs += [("edm", EDM, "karras", grids.karras), ("edm", EDM, "gits", spacings["gits"])]
    return {
        f"{kind}, {spacing}, {method}": _runner(process, grid, solver)
        for kind, process, spacing, grid in pairs
        for method, solver in (methods if process is FLOW else methods | signal).items()
    }


if __name__ == "__main__":
    command_line.run(main)
