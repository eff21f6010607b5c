"""CIFAR-10, class-conditional, with the network and the recipe of DDPM; for an accelerator.

Ho et al. 2020 (arXiv 2006.11239), appendix B: 35.7 million parameters, Adam with a learning rate of 2e-4, batches of
128, dropout 0.1, flips, 800,000 steps. The paper uses no labels; `--diffusion.no-conditional` leaves them out.
`--data.data-dir` names a TFDS directory that holds `cifar10`.
"""

from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig

CONFIG = Config(
    data=DataConfig(name="cifar10", flip=True),
    diffusion=DiffusionConfig(process="vp_discrete", parametrization="eps", times="indices", label_dropout=0.1),
    network=UNet(channels=128, multipliers=(1, 2, 2, 2), num_blocks=2, attention_levels=(1,), dropout=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-4, warmup=5000),
    train=TrainConfig(
        steps=800_000,
        batch_size=128,
        ema_half_life=900_000,
        sample_every=10_000,
        checkpoint_every=10_000,
        log_every=100,
    ),
    sample=SampleConfig(solver="ddim", grid="discrete", steps=100),
)
