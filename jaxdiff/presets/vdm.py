"""VDM on the digits: the variational bound, by which the noise schedule is learned too.

Kingma et al. 2021 (arXiv 2107.00630). `validation_loss` is the bound in bits per dimension.
"""

from jaxdiff import grids, parametrizations, processes, solvers
from jaxdiff.components import choose
from jaxdiff.data import Digits
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import UNet
from jaxdiff.objectives import Variational
from jaxdiff.runs.config import Config, OptimizerConfig, ParallelConfig, TrainConfig

CONFIG = Config(
    data=Digits(),
    validation=Digits(split="test"),
    model=Diffusion(
        network=UNet(channels=24, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), dropout=0.1),
        process=choose(processes.learned, gamma_min=-13.3, gamma_max=5.0, hidden=256),
        parametrization=choose(parametrizations.eps),
    ),
    objective=Variational(levels=256),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(
        steps=1600, batch_size=128, ema_half_life=20_000, validate_every=400, sample_every=800, checkpoint_every=800
    ),
    parallel=ParallelConfig(cpu_devices=2),
    sample=Sampling(solver=choose(solvers.dpm_solver_pp, order=2), grid=choose(grids.uniform_log_snr), steps=50),
)
