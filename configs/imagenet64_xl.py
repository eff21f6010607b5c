"""ImageNet at 64 x 64 with a U-Net of 676.6 million parameters, a wider network than in `imagenet64.py`; for a pod.

The size is that of DiT-XL/2 (Peebles & Xie 2023, arXiv 2212.09748), which has 675 million parameters.
`--data.data_dir` names a TFDS directory that holds `imagenet_resized/64x64`.
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
            channels=256,
            multipliers=(1, 2, 3, 5),
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
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup=5000),
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
