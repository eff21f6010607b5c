"""ImageNet at 256 x 256 with DiT-XL/2 in the latents of an autoencoder (Peebles & Xie 2023, arXiv 2212.09748).

`--data.path` names a folder with one subfolder of pictures for each class, and `--model.codec.run` the run of an
autoencoder with 4 channels, eight times smaller than the picture, such as `jaxdiff convert` makes of Stable
Diffusion's.
"""

from jaxdiff import grids, parametrizations, processes
from jaxdiff.augmentations import Flip
from jaxdiff.codecs import Latents
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Folder
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import published
from jaxdiff.objectives import Hybrid
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Folder("imagenet", size=256),
    augmentations=(Flip(),),
    model=Diffusion(
        network=published.dit_xl().clone(dtype="bfloat16"),
        codec=Latents("runs/autoencoder"),
        process=choose(processes.vp_discrete, schedule="linear"),
        parametrization=choose(parametrizations.eps),
        conditions={"label": Label(dropout=0.1)},
        learned_variance=True,
    ),
    objective=Hybrid(levels=None),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup=0),
    train=TrainConfig(
        steps=400_000,
        batch_size=256,
        ema_half_life=1_774_000,  # 0.9999 after each batch
        sample_every=10_000,
        checkpoint_every=5_000,
        log_every=100,
    ),
    sample=Sampling(grid=choose(grids.discrete), steps=50, guidance=ClassifierFree(4.0)),
)
