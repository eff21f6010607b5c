"""Makes azula.npz: azula's denoisers and steps with guidance and observations, in float64. See README.md.

python scripts/benchmark/make_environment.py azula
.environments/azula/bin/python tests/references/make_azula.py
"""

from typing import Any
from unittest import mock

import mixture
import numpy as np
import torch
from azula import guidance
from azula.denoise import Denoiser, DiracPosterior
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import Schedule

torch.set_default_dtype(torch.float64)
WEIGHTS, MEANS, STDS = (torch.from_numpy(array) for array in (mixture.WEIGHTS, mixture.MEANS, mixture.STDS))
MATRIX = torch.tensor([[1.0, -0.5], [0.3, 0.8]])
SEEN = torch.from_numpy(np.random.default_rng(2).normal(size=(8, 2)))
STD, TIMES, NEXT = 0.3, (0.15, 0.5, 0.85), 0.1
SETTING: dict[str, Any] = {
    "matrix": MATRIX,
    "seen": SEEN,
    "std": STD,
    "times": TIMES,
    "next": NEXT,
    "x": mixture.start(),
}


class Flow(Schedule):
    """alpha = 1 - t, sigma = t."""

    def __call__(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both scales."""
        return 1 - t, t


class Mixture(Denoiser):
    """The exact denoiser of the mixture, or of one of its components."""

    schedule = Flow()

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, component: int | None = None) -> DiracPosterior:
        """The posterior mean."""
        alpha, sigma = self.schedule(t)
        v = alpha**2 * STDS**2 + sigma**2
        centred = x_t[:, None] - alpha * MEANS
        r = torch.softmax(torch.log(WEIGHTS) - torch.log(v) - (centred**2).sum(-1) / (2 * v), dim=1)
        means = MEANS + (alpha * STDS**2 / v)[:, None] * centred
        return DiracPosterior(means[:, component] if component is not None else (r[..., None] * means).sum(1))


def seen(x: torch.Tensor) -> torch.Tensor:
    """What an instrument sees."""
    return x @ MATRIX.T


def undone(y: torch.Tensor) -> torch.Tensor:
    """The inverse of `seen`."""
    return torch.linalg.solve(MATRIX, y.T).T


def main() -> None:
    """Calls azula at each time, and writes the file."""
    x, noise = torch.from_numpy(mixture.start()), IsotropicCovariance(torch.tensor(STD**2))
    denoisers = {
        f"mmps {solver} {n}": guidance.MMPSDenoiser(Mixture(), SEEN, seen, noise, solver, n)
        for solver, n in (("gmres", 1), ("gmres", 2), ("cg", 2))
    }
    denoisers["tmpd"] = guidance.TMPDenoiser(Mixture(), SEEN, seen, STD**2)
    denoisers["diffpir"] = guidance.DiffPIRDenoiser(Mixture(), SEEN, seen, STD**2, lmbda=0.7, iterations=2)
    cases: dict[str, dict[str, Any]] = {"setting": SETTING, "result": {}}
    for t in TIMES:
        time, after = torch.tensor(t), torch.tensor(NEXT)
        for name, denoiser in denoisers.items():
            cases["result"][f"{name}, {t}"] = denoiser(x, time).mean.detach()
        options = {"positive": {"component": 0}, "negative": {}, "guidance": 1.5}
        cases["result"][f"cfg, {t}"] = guidance.CFGDenoiser(Mixture())(x, time, **options).mean
        # One example at a time: azula's norm is that of a whole batch. Without noise, a step is its mean.
        with mock.patch.object(torch, "randn_like", torch.zeros_like):
            steps = [
                guidance.DPSSampler(Mixture(), y[None], seen, zeta=0.4, silent=True).step(row[None], time, after)
                for row, y in zip(x, SEEN, strict=True)
            ]
            pgdm = guidance.PGDMSampler(Mixture(), SEEN, seen, undone, eta=0.0, silent=True)
            cases["result"][f"pgdm, {t}"] = pgdm.step(x, time, after)
        cases["result"][f"dps, {t}"] = torch.cat(steps)
    mixture.save("azula", cases)


main()
