"""ImageNet at 64 x 64, class-conditional, with the network of ADM; for a pod.

Dhariwal & Nichol 2021 (arXiv 2105.05233), appendix I: 295.9 million parameters, the cosine schedule, dropout 0.1,
batches of 2048, learning rate 3e-4. Two things differ from the paper: the network predicts the noise without a
variance, and labels are dropped for classifier-free guidance. `--data.data_dir` names a TFDS directory that holds
`imagenet_resized/64x64`.
"""

from jaxdiff import grids, parametrizations, processes
from jaxdiff.augmentations import Flip
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Tfds
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import Sinusoidal, UNet
from jaxdiff.objectives import Denoising, times
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Tfds("imagenet_resized/64x64"),
    augmentations=(Flip(),),
    model=Diffusion(
        network=UNet(
            channels=192,
            multipliers=(1, 2, 3, 4),
            num_blocks=3,
            attention_levels=(1, 2, 3),
            head_channels=64,
            embedding=Sinusoidal(cos_first=True, endpoint=False),
            scale_shift=True,
            resampling="residual",
            norm_eps=1e-5,
            dropout=0.1,
            dtype="bfloat16",
        ),
        process=choose(processes.vp_discrete, schedule="cosine"),
        parametrization=choose(parametrizations.eps),
        conditions={"label": Label(dropout=0.1)},
    ),
    objective=Denoising(times=choose(times.indices)),
    optimizer=OptimizerConfig(learning_rate=3e-4, warmup=5000),
    train=TrainConfig(
        steps=540_000,
        batch_size=2048,
        ema_half_life=14_000_000,
        sample_every=10_000,
        checkpoint_every=5_000,
        log_every=100,
    ),
    sample=Sampling(grid=choose(grids.discrete), steps=50),
)
