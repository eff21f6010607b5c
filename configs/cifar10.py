"""CIFAR-10, class-conditional, with the network and the recipe of DDPM; for an accelerator.

Ho et al. 2020 (arXiv 2006.11239), appendix B: 35.7 million parameters, Adam with a learning rate of 2e-4, batches of
128, dropout 0.1, flips, 800,000 steps. The paper uses no labels; `--model.conditions.label none` leaves them out.
`--data.data_dir` names a TFDS directory that holds `cifar10`.
"""

from jaxdiff import grids, parametrizations, processes
from jaxdiff.augmentations import Flip
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Tfds
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import UNet
from jaxdiff.objectives import Denoising, times
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Tfds("cifar10"),
    augmentations=(Flip(),),
    model=Diffusion(
        network=UNet(channels=128, multipliers=(1, 2, 2, 2), num_blocks=2, attention_levels=(1,), dropout=0.1),
        process=choose(processes.vp_discrete),
        parametrization=choose(parametrizations.eps),
        conditions={"label": Label(dropout=0.1)},
    ),
    objective=Denoising(times=choose(times.indices)),
    optimizer=OptimizerConfig(learning_rate=2e-4, warmup=5000),
    train=TrainConfig(
        steps=800_000,
        batch_size=128,
        ema_half_life=900_000,
        sample_every=10_000,
        checkpoint_every=10_000,
        log_every=100,
    ),
    sample=Sampling(grid=choose(grids.discrete), steps=100),
)
