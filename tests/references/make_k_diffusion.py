"""Makes k_diffusion.npz: samples of k-diffusion's samplers in float64, from stored noise. See README.md.

python scripts/benchmark/make_environment.py peers
.environments/peers/bin/python tests/references/make_k_diffusion.py
"""

import functools
import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import mixture
import numpy as np
import torch


def sampling_module() -> Any:
    """`k_diffusion.sampling` as installed, without the rest of the package (models, metrics, image tools).

    Its imports need torchvision for images only, so empty modules replace it.
    """
    spec = importlib.util.find_spec("k_diffusion")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    functional = types.ModuleType("torchvision.transforms.functional")
    transforms = types.ModuleType("torchvision.transforms")
    transforms.functional = functional
    sys.modules.update(
        {
            "k_diffusion": package,
            "torchvision": types.ModuleType("torchvision"),
            "torchvision.transforms": transforms,
            "torchvision.transforms.functional": functional,
        }
    )
    return importlib.import_module("k_diffusion.sampling")


kd = sampling_module()


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> np.ndarray:
    """Equation 5 of Karras et al. 2022 in float64, without the final zero."""
    return np.linspace(high ** (1 / rho), low ** (1 / rho), steps) ** rho


GRIDS = {
    "clean": np.append(karras(10, 0.002, 80.0), 0.0),
    "noisy": karras(11, 0.05, 40.0, rho=5.0),
}


def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact denoiser of the mixture."""
    return torch.from_numpy(mixture.posterior_mean(x.numpy(), 1.0, float(sigma[0])))


def run(sampler: Callable[..., torch.Tensor], sigmas: np.ndarray, replay: bool = False, **options: Any) -> dict:
    """Runs one sampler on one grid, and notes which draws it used.

    Args:
      replay: pass the noise as `noise_sampler`. Samplers with churn take theirs from `torch.randn_like`.
    """
    used: list[int] = []
    noise = iter(enumerate(mixture.draws()))

    def draw(*_: Any, **__: Any) -> torch.Tensor:
        index, z = next(noise)
        used.append(index)
        return torch.from_numpy(z)

    x = mixture.start() * sigmas[0]
    if replay:
        options["noise_sampler"] = draw
    with mock.patch.object(torch, "randn_like", draw):
        result = sampler(model, torch.from_numpy(x), torch.from_numpy(sigmas), disable=True, **options)
    if "s_churn" in options:  # drawn at every step, used where the noise is raised
        low, high = options.get("s_tmin", 0.0), options.get("s_tmax", np.inf)
        used = [i for i in used if low <= sigmas[i] <= high]
    elif not options.get("eta"):  # not drawn, or drawn and multiplied by 0
        used = []
    assert torch.isfinite(result).all()
    return {"result": result.numpy()} | ({"draws": np.array(used, np.int8)} if used else {})


def singlestep(order: int, sigmas: np.ndarray) -> dict:
    """The steps of DPM-Solver of one order. k-diffusion uses mixed orders in `sample_dpm_fast`."""
    solver = kd.DPMSolver(model)
    step = {1: solver.dpm_solver_1_step, 2: solver.dpm_solver_2_step, 3: solver.dpm_solver_3_step}[order]
    x = torch.from_numpy(mixture.start() * sigmas[0])
    t = -torch.from_numpy(sigmas).log()
    for here, there in itertools.pairwise(t):
        x, _ = step(x, here, there)
    return {"result": x.numpy()}


CHURN = {"s_churn": 10.0}
IMAGENET = {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
cases: dict[str, dict] = {
    "mixture": {"weights": mixture.WEIGHTS, "means": mixture.MEANS, "stds": mixture.STDS, "draws": mixture.draws(12)}
}
for grid, sigmas in GRIDS.items():
    cases[grid] = {"sigmas": sigmas, "x": mixture.start() * sigmas[0]}
    for name in ("euler", "heun", "dpm_2"):
        sampler = getattr(kd, f"sample_{name}")
        cases[f"{name}, {grid}"] = run(sampler, sigmas)
        cases[f"{name} churn, {grid}"] = run(sampler, sigmas, **CHURN)
        cases[f"{name} churn within, {grid}"] = run(sampler, sigmas, **IMAGENET)
    for order in (1, 2, 3, 4):
        cases[f"lms {order}, {grid}"] = run(kd.sample_lms, sigmas, order=order)
    cases[f"dpmpp_2m, {grid}"] = run(kd.sample_dpmpp_2m, sigmas)
    for eta in (0.0, 0.5, 1.0):
        stochastic = functools.partial(run, sigmas=sigmas, replay=True, eta=eta)
        for name in ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"):
            cases[f"{name} {eta}, {grid}"] = stochastic(getattr(kd, f"sample_{name}"))
        for kind in ("midpoint", "heun"):
            cases[f"dpmpp_2m_sde {kind} {eta}, {grid}"] = stochastic(kd.sample_dpmpp_2m_sde, solver_type=kind)
        cases[f"dpmpp_3m_sde {eta}, {grid}"] = stochastic(kd.sample_dpmpp_3m_sde)
for order in (1, 2, 3):
    cases[f"dpm_solver {order}, noisy"] = singlestep(order, GRIDS["noisy"])

mixture.save("k_diffusion", cases)
