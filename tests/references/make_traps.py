"""Makes traps.npz: answers of diffusers in cases where it is wrong, for tests of the right answer. See README.md.

python scripts/benchmark/make_environment.py peers
.environments/peers/bin/python tests/references/make_traps.py
"""

import itertools
from typing import Any

import diffusers
import make_diffusers
import mixture
import numpy as np
import torch


def third_order_sde(steps: int) -> dict[str, Any]:
    """sde-dpmsolver++ of order 3 without its noise, for `x0 = sin l` with half the log-SNR l, whatever x is."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++",
        solver_order=3,
        prediction_type="sample",
        use_exponential_sigmas=True,
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    scheduler.set_timesteps(steps + 1)  # the last step has no length
    x = torch.ones(1, 1)
    for level, t in itertools.islice(zip(scheduler.sigmas, scheduler.timesteps, strict=False), steps):
        output = torch.sin(-torch.log(level)) * torch.ones(1, 1)
        x = scheduler.step(output, t, x, variance_noise=torch.zeros(1, 1)).prev_sample
    return {"levels": scheduler.sigmas[: steps + 1].numpy(), "result": x.numpy()}


def ddim_of_a_point(steps: int, spacing: str) -> dict[str, Any]:
    """The states of DDIM when all data are (1, 1): every x_t is `alpha(t) + sigma(t) eps` with a constant eps."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    x, asked = torch.from_numpy(mixture.start()), []
    for t in scheduler.timesteps:
        asked.append(x.numpy())
        product = scheduler.alphas_cumprod[t]
        x = scheduler.step((x - product.sqrt()) / (1 - product).sqrt(), int(t), x).prev_sample
    return {"indices": scheduler.timesteps.numpy(), "asked": np.stack(asked), "result": x.numpy()}


def grid(scheduler: Any, steps: int) -> dict[str, Any]:
    """The grid of a scheduler."""
    scheduler.set_timesteps(steps)
    return {"levels": scheduler.sigmas.numpy(), "timesteps": scheduler.timesteps.numpy()}


def main() -> None:
    """Runs everything."""
    d, cases = diffusers, {}
    for steps in (20, 40, 80):
        cases[f"sde 3 {steps}"] = third_order_sde(steps)
    cases["unipc bh1"] = make_diffusers.run(d.UniPCMultistepScheduler(solver_type="bh1", use_karras_sigmas=True), 10)
    for spacing in ("trailing", "linspace"):
        cases[f"ddim {spacing}"] = ddim_of_a_point(30, spacing)
    for name in ("DEISMultistep", "SASolver"):
        cases[f"{name} karras"] = grid(getattr(d, f"{name}Scheduler")(use_karras_sigmas=True), 10)
    for steps in (20, 100, 500):
        scheduler = d.DEISMultistepScheduler(solver_order=3, lower_order_final=False)
        cases[f"deis 3 {steps}"] = make_diffusers.run(scheduler, steps)
    cases["beta"] = grid(d.EulerDiscreteScheduler(use_beta_sigmas=True), 20)
    cosine = {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}
    cases["cosine karras"] = grid(d.DPMSolverMultistepScheduler(**cosine), 30)
    cases["flow shift"] = grid(d.FlowMatchEulerDiscreteScheduler(shift=3.0), 10)
    mixture.save("traps", cases)


if __name__ == "__main__":
    main()
