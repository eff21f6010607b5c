"""The samplers of diffusers and k-diffusion on the exact mixture, run as their users run them, in float32.

Each sampler uses its own noise levels and the exact denoiser at these levels. It starts from the given normal noise,
scaled to its first level.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import exact_mixture
import machine
import numpy as np


class Run(NamedTuple):
    """The samples from some noise; the sampler started from `scale` times the noise, at `alpha` and `sigma`."""

    scale: float
    alpha: float
    sigma: float
    samples: np.ndarray


Runner = Callable[[np.ndarray, int], Run]


def _steps(name: str, evaluations: int) -> int:
    """The number of steps for some evaluations: Heun's method makes two evaluations in each step but the last."""
    return (evaluations + 1) // 2 if name == "Heun" else evaluations


def diffusers_samplers() -> dict[tuple[str, str], Runner]:
    """The runners by (grid, name). Without diffusers or torch there are none, and a line says so."""
    torch, diffusers = machine.peer("torch"), machine.peer("diffusers")
    if torch is None or diffusers is None:
        return {}
    trailing = {"timestep_spacing": "trailing"}
    karras = {"use_karras_sigmas": True}
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    made: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {
        ("VP trailing", "DDIM"): (diffusers.DDIMScheduler, {"clip_sample": False, **trailing}),
        ("VP trailing", "DPM++2M"): (diffusers.DPMSolverMultistepScheduler, trailing),
        ("VP trailing", "UniPC-2"): (diffusers.UniPCMultistepScheduler, trailing),
        ("VP trailing", "DEIS-2"): (diffusers.DEISMultistepScheduler, trailing),
        ("VP trailing", "DDPM"): (diffusers.DDPMScheduler, {"clip_sample": False, **trailing}),
        ("VP trailing", "SDE-DPM++2M"): (
            diffusers.DPMSolverMultistepScheduler,
            {"algorithm_type": "sde-dpmsolver++", **trailing},
        ),
        ("Karras", "DPM++2M"): (diffusers.DPMSolverMultistepScheduler, karras),
        ("Karras", "UniPC-2"): (diffusers.UniPCMultistepScheduler, karras),
        ("Karras", "UniPC-3"): (diffusers.UniPCMultistepScheduler, {"solver_order": 3, **karras}),
        ("flow", "Euler"): (diffusers.FlowMatchEulerDiscreteScheduler, {}),
        ("flow", "Heun"): (diffusers.FlowMatchHeunDiscreteScheduler, {}),
        ("flow", "DPM++2M"): (diffusers.DPMSolverMultistepScheduler, flow),
    }

    def runner(grid: str, name: str, make: Any, options: dict[str, Any]) -> Runner:
        def run(noise: np.ndarray, evaluations: int) -> Run:
            scheduler = make(num_train_timesteps=1000, **options)
            scheduler.set_timesteps(_steps(name, evaluations))
            x = torch.from_numpy(noise.astype(np.float32))
            first: tuple[float, float] | None = None
            for i, t in enumerate(scheduler.timesteps):
                if not hasattr(scheduler, "sigmas"):
                    level = float(scheduler.alphas_cumprod[t])
                    alpha, sigma = np.sqrt(level), np.sqrt(1 - level)
                else:
                    level = float(scheduler.sigmas[i])
                    scale = 1.0 if grid == "flow" else np.sqrt(1 + level**2)
                    alpha, sigma = (1 - level) if grid == "flow" else 1 / scale, level / scale
                first = first or (alpha, sigma)
                x0, eps = exact_mixture.estimate(x.numpy().astype(np.float64), alpha, sigma)
                output = torch.from_numpy((eps - x0 if grid == "flow" else eps).astype(np.float32))
                x = scheduler.step(output, t, x).prev_sample
            assert first is not None
            return Run(1.0, *first, x.numpy())

        return run

    return {key: runner(*key, *made[key]) for key in made}


def k_diffusion_samplers() -> dict[tuple[str, str], Runner]:
    """The runners by (grid, name). Without k-diffusion or torch there are none, and a line says so."""
    torch = machine.peer("torch")
    k = None if torch is None else machine.k_diffusion_sampling()
    if k is None:
        return {}
    levels = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    low, high = (float(np.sqrt((1 - level) / level)) for level in (levels[0], levels[-1]))
    grids = {
        "Karras": lambda n: k.get_sigmas_karras(n, low, high),
        "exponential": lambda n: k.get_sigmas_exponential(n, low, high),
        "EDM rho 7": lambda n: k.get_sigmas_karras(n, 0.002, 80.0),
    }
    made = {
        ("Karras", "Euler"): k.sample_euler,
        ("Karras", "Heun"): k.sample_heun,
        ("Karras", "LMS"): k.sample_lms,
        ("Karras", "DPM++2M"): k.sample_dpmpp_2m,
        ("exponential", "DPM++2M"): k.sample_dpmpp_2m,
        ("EDM rho 7", "Heun"): k.sample_heun,
        ("EDM rho 7", "DPM++2M"): k.sample_dpmpp_2m,
    }

    def model(x: Any, sigma: Any) -> Any:
        x0, _ = exact_mixture.estimate(x.numpy().astype(np.float64), 1.0, float(sigma[0]))
        return torch.from_numpy(x0.astype(np.float32))

    def runner(grid: str, name: str, sampler: Any) -> Runner:
        def run(noise: np.ndarray, evaluations: int) -> Run:
            sigmas = grids[grid](_steps(name, evaluations))
            sigma = float(sigmas[0])
            x = torch.from_numpy((sigma * noise).astype(np.float32))
            return Run(sigma, 1.0, sigma, sampler(model, x, sigmas, disable=True).numpy())

        return run

    return {key: runner(*key, made[key]) for key in made}


def ddpm_unet(diffusers: Any, size: int) -> Any:
    """diffusers' DDPM network for CIFAR-10, with 35.7 million parameters like our `UNet()`; `size` is in pixels."""
    return diffusers.UNet2DModel(
        sample_size=size,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )


def dit_s(diffusers: Any, size: int) -> Any:
    """diffusers' DiT-S/2 on latents of 4 channels; each of its blocks embeds times and classes itself."""
    return diffusers.DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=64,
        num_layers=12,
        in_channels=4,
        out_channels=8,
        patch_size=2,
        sample_size=size,
        num_embeds_ada_norm=1000,
    )


def small_mmdit(diffusers: Any, size: int) -> Any:
    """diffusers' transformer of Stable Diffusion 3 with 6 blocks of width 384."""
    return diffusers.SD3Transformer2DModel(
        sample_size=size,
        patch_size=2,
        in_channels=16,
        num_layers=6,
        attention_head_dim=64,
        num_attention_heads=6,
        joint_attention_dim=512,
        caption_projection_dim=384,
        pooled_projection_dim=256,
        out_channels=16,
        pos_embed_max_size=192,
    )
