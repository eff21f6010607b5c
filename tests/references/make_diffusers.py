"""Makes diffusers.npz: samples of diffusers' schedulers, in float32 and, where a class allows it, in float64.

    python scripts/benchmark/make_environment.py peers
    .environments/peers/bin/python tests/references/make_diffusers.py

See README.md. The schedulers run as they are, with two exceptions. In the float64 runs their float32 noise levels are
widened to float64, and the cumulative products of DDPM are computed in float64, so that the same grid has float64
coefficients. And where a class draws its own noise, it gets the stored noise.
"""

import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import diffusers
import mixture
import numpy as np
import torch

diffusers.logging.set_verbosity_error()
DOUBLE, SINGLE = torch.float64, torch.float32


def draw_from(noise: Iterator[np.ndarray], dtype: torch.dtype) -> Any:
    """A replacement for `randn_tensor`."""
    return lambda *_, **__: torch.from_numpy(next(noise)).to(dtype)


def run(
    scheduler: Any,
    steps: int,
    dtype: torch.dtype = SINGLE,
    *,
    kind: str = "vp",
    predict: str = "eps",
    noise: bool = False,
    stop: int | None = None,
    types: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Runs one scheduler, with the mixture denoised exactly at the scheduler's noise levels.

    Args:
      kind: the form of x in the class. "vp": `alpha x0 + sigma eps` with `alpha^2 + sigma^2 = 1`. "ve":
        `x0 + sigma eps`. "flow": `(1 - sigma) x0 + sigma eps`. "ddpm": as "vp", with levels looked up by time step.
      predict: "eps" or "velocity".
      noise: pass `variance_noise` at every step.
      stop: the number of evaluations after which to end.
      types: values of `solver_type`, used in turn from evaluation to evaluation.

    Returns:
      `levels [evaluations + 1]`, the noise levels of the scheduler (ratios `sigma/alpha`, or times for "flow"), and `x`
      and `result`.
    """
    scheduler.set_timesteps(steps)
    draws = iter(mixture.draws())
    levels = []
    if kind == "ddpm" and dtype == DOUBLE:
        scheduler.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=dtype), 0)
        scheduler.final_alpha_cumprod = torch.ones((), dtype=dtype)
    if kind != "ddpm":
        scheduler.sigmas = scheduler.sigmas.to(dtype)
    # Rounded to float32, so that both precisions start from the same numbers.
    x = torch.from_numpy(mixture.start()).to(SINGLE).to(dtype)
    if kind == "ve":
        x = x * torch.sqrt(1 + scheduler.sigmas[0] ** 2)
    first = x.numpy().astype(np.float64)
    module = sys.modules[type(scheduler).__module__]
    replaced = mock.patch.object(module, "randn_tensor", draw_from(draws, dtype), create=True)
    with replaced, torch.no_grad():
        for i, t in enumerate(scheduler.timesteps[:stop]):
            if kind == "ddpm":
                product = float(scheduler.alphas_cumprod[int(t)])
                alpha, sigma = np.sqrt(product), np.sqrt(1 - product)
                level = sigma / alpha
            else:
                level = float(scheduler.sigmas[i])
                if kind == "vp":
                    alpha = 1 / np.sqrt(1 + level**2)
                    sigma = level * alpha
                elif kind == "ve":
                    alpha, sigma = 1.0, level
                else:
                    alpha, sigma = 1 - level, level
            point = x.numpy().astype(np.float64)
            levels.append(level)
            x0 = mixture.posterior_mean(point, alpha, sigma)
            eps = (point - alpha * x0) / sigma
            output = torch.from_numpy(eps if predict == "eps" else eps - x0).to(dtype)
            if hasattr(scheduler, "is_scale_input_called"):
                scheduler.scale_model_input(x, t)  # sets the class's counters; its result is for networks
            if types:
                scheduler.register_to_config(solver_type=types[i % len(types)])
            if noise:
                options["variance_noise"] = torch.from_numpy(next(draws)).to(dtype)
            x = scheduler.step(output, t, x, **options).prev_sample
    levels.append(0.0 if kind == "ddpm" else float(scheduler.sigmas[len(levels)]))
    return {"levels": np.array(levels), "x": first, "result": x.numpy()}


def main() -> None:
    """Runs everything."""
    cases: dict[str, dict[str, Any]] = {"mixture": {"draws": mixture.draws(24)}}

    def add(name: str, make: Any, steps: int, *, double: bool = True, **options: Any) -> None:
        for dtype in (SINGLE, DOUBLE) if double else (SINGLE,):
            found = run(make(), steps, dtype, **options)
            assert np.isfinite(found["result"]).all(), name
            case = cases.setdefault(name, {})
            case |= {"levels": found["levels"], "x": found["x"]}
            case["result" if dtype == SINGLE else "result64"] = found["result"]

    d = diffusers
    trailing = {"timestep_spacing": "trailing"}
    ddim = lambda **o: lambda: d.DDIMScheduler(clip_sample=False, **o)  # noqa: E731
    add("ddim trailing", ddim(**trailing), 10, kind="ddpm")
    add("ddim leading", ddim(), 10, kind="ddpm")
    add("ddim trailing eta 0.5", ddim(**trailing), 10, kind="ddpm", eta=0.5, noise=True)
    add("ddim trailing eta 1", ddim(**trailing), 10, kind="ddpm", eta=1.0, noise=True)
    for variance in ("small", "large"):
        make = lambda v=variance: d.DDPMScheduler(clip_sample=False, variance_type=f"fixed_{v}")  # noqa: E731
        add(f"ddpm {variance}", make, 10, kind="ddpm")
    add("pndm", lambda: d.PNDMScheduler(set_alpha_to_one=True), 10, kind="ddpm")
    add("plms", lambda: d.PNDMScheduler(set_alpha_to_one=True, skip_prk_steps=True), 10, kind="ddpm")

    # The class casts x to float32 at every step.
    dpm = lambda **o: lambda: d.DPMSolverMultistepScheduler(**o)  # noqa: E731
    karras = {"use_karras_sigmas": True}
    for kind in ("midpoint", "heun"):
        add(f"dpm++ 2m {kind} karras", dpm(solver_type=kind, **karras), 10, double=False)
        add(f"dpm++ 2m {kind} trailing", dpm(solver_type=kind, **trailing), 10, double=False)
        noisy = {"final_sigmas_type": "sigma_min", "lower_order_final": False}
        add(f"dpm++ 2m {kind} noisy", dpm(solver_type=kind, **noisy), 10, double=False)
        add(f"dpm++ 3m {kind} karras", dpm(solver_type=kind, solver_order=3, **karras), 20, double=False)
        add(f"dpm++ 3m {kind} noisy", dpm(solver_type=kind, solver_order=3, **noisy), 10, double=False)
        sde = {"solver_type": kind, "algorithm_type": "sde-dpmsolver++"}
        add(f"sde-dpm++ 2m {kind} karras", dpm(**sde, **karras), 10, double=False, noise=True)
        add(f"sde-dpm++ 2m {kind} noisy", dpm(**sde, **noisy), 10, double=False, noise=True)
    add("dpm 2m noisy", dpm(algorithm_type="dpmsolver", solver_type="heun", **noisy), 10, double=False)
    # Steps of equal half log-SNR, on which the class's intermediate points are where the algorithm has them.
    single = {"use_exponential_sigmas": True, "lower_order_final": False, "final_sigmas_type": "sigma_min"}
    # In order 3 the stages are those of the paper if the class integrates the line through two estimates at the second
    # stage ("heun") and ignores the second of three estimates at the third ("midpoint"). The 13th step has no length.
    for order, types in ((2, ("midpoint",)), (3, ("midpoint", "heun", "midpoint"))):
        make = lambda o=order: d.DPMSolverSinglestepScheduler(solver_order=o, **single)  # noqa: E731
        add(f"dpm++ singlestep {order}", make, 13, double=False, stop=12, types=types)

    for order in (1, 2, 3):
        for variant in ("bh1", "bh2"):
            options = {"solver_order": order, "solver_type": variant}
            make = lambda o=options: d.UniPCMultistepScheduler(**o, **noisy)  # noqa: E731
            add(f"unipc {order} {variant} noisy", make, 10)
            if variant == "bh2" and order < 3:
                make = lambda o=options: d.UniPCMultistepScheduler(**o, **karras)  # noqa: E731
                add(f"unipc {order} {variant} karras", make, 10)
        make = lambda o=order: d.DEISMultistepScheduler(solver_order=o, lower_order_final=False)  # noqa: E731
        add(f"deis {order}", make, 10)
    for name in ("Euler", "Heun", "LMS"):
        make = lambda n=name: getattr(d, f"{n}DiscreteScheduler")(**karras)  # noqa: E731
        add(f"{name.lower()} karras", make, 10, kind="ve", double=name != "Euler")
    for predictor, corrector in ((1, 1), (2, 2), (3, 4)):
        for tau in (0.0, 0.6, 1.0):
            make = lambda p=predictor, c=corrector, tau=tau: d.SASolverScheduler(  # noqa: E731
                predictor_order=p, corrector_order=c, tau_func=lambda t: tau, lower_order_final=False
            )
            add(f"sa {predictor} {corrector} {tau}", make, 10)

    flow = {"kind": "flow", "predict": "velocity"}
    add("flow euler", lambda: d.FlowMatchEulerDiscreteScheduler(), 10, double=False, **flow)
    add("flow heun", lambda: d.FlowMatchHeunDiscreteScheduler(), 10, double=False, **flow)
    flowing = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    add("flow dpm++ 2m", dpm(**flowing), 10, double=False, **flow)
    add("flow unipc", lambda: d.UniPCMultistepScheduler(**flowing), 10, **flow)
    mixture.save("diffusers", cases)


if __name__ == "__main__":
    main()
