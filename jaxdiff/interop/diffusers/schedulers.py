"""The schedulers of diffusers: the process, the meaning of the network's output, and how samples are drawn."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdiff import grids, parametrizations, processes, solvers
from jaxdiff.components import choose
from jaxdiff.interop.diffusers.settings import Settings
from jaxdiff.models import Sampling

_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
# The solver of each scheduler. Other schedulers are sampled by DPM-Solver++.
_SOLVERS: dict[str, Callable[..., Any]] = {
    "DDPMScheduler": solvers.ddpm,
    "DDIMScheduler": solvers.ddim,
    "EulerDiscreteScheduler": solvers.ddim,
    "DPMSolverMultistepScheduler": solvers.dpm_solver_pp,
    "UniPCMultistepScheduler": solvers.uni_pc,
}
_OUTPUTS = {"epsilon": parametrizations.eps, "sample": parametrizations.x0, "v_prediction": parametrizations.v}


def scheduler(config: Mapping[str, Any], steps: int = 50) -> tuple[Any, Any, Sampling]:
    """The process, the parametrization and the sampling of a `scheduler_config.json`.

    Args:
      config: the entries of the file.
      steps: the number of steps of a sample.

    Returns:
      Choices of a process and of a parametrization, and a `Sampling` without guidance.

    Raises:
      ValueError: the schedule or the output is none that we know.
    """
    settings = Settings(config, "scheduler_config.json")
    kind = str(settings.get("_class_name", "DDPMScheduler"))
    if kind in _FLOW:
        settings.known("use_dynamic_shifting", (False,), False)
        shift = settings.number("shift", 1.0)
        grid = choose(grids.shifted, shift=shift) if shift != 1 else choose(grids.uniform_time)
        sampling = Sampling(choose(solvers.ddim), grid, steps)
        return choose(processes.flow), choose(parametrizations.velocity), sampling
    process = _chain(settings)
    output = settings.known("prediction_type", tuple(_OUTPUTS), "epsilon")
    spacing = settings.known("timestep_spacing", ("leading", "trailing", "linspace"), "leading")
    solver = choose(_SOLVERS.get(kind, solvers.dpm_solver_pp))
    sampling = Sampling(solver, choose(grids.discrete, spacing=spacing), steps)
    return process, choose(_OUTPUTS[output]), sampling


def _chain(settings: Settings) -> Any:
    """The choice of DDPM's chain."""
    count = settings.length("num_train_timesteps", 1000)
    zero = bool(settings.get("rescale_betas_zero_snr", False))
    given = settings.get("trained_betas")
    schedule = settings.known("beta_schedule", ("linear", "scaled_linear", "squaredcos_cap_v2"), "linear")
    if given is None and schedule == "squaredcos_cap_v2":
        return choose(processes.vp_discrete, schedule="cosine", steps=count, zero_terminal_snr=zero)
    first, last = settings.number("beta_start", 1e-4), settings.number("beta_end", 0.02)
    usual = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}
    if given is None and count == 1000 and (first, last) == usual[schedule]:
        return choose(processes.vp_discrete, schedule=schedule, zero_terminal_snr=zero)
    for name, value in (("beta_start", first), ("beta_end", last)):
        if not 0 < value < 1:
            raise settings.refuse(name, "numbers between 0 and 1")
    if given is None:
        power = 2 if schedule == "scaled_linear" else 1
        given = np.linspace(first ** (1 / power), last ** (1 / power), count) ** power
    betas = _betas(settings, given)
    betas = processes.enforce_zero_terminal_snr(betas) if zero else betas
    return choose(processes.vp_from_betas, betas=tuple(betas.tolist()))


def _betas(settings: Settings, given: Any) -> np.ndarray:
    """Betas as numbers."""
    try:
        betas = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        betas = np.zeros(0)
    if betas.ndim != 1 or not betas.size or not np.all((betas > 0) & (betas < 1)):
        raise settings.refuse("trained_betas", "lists of numbers between 0 and 1")
    return betas
