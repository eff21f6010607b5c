"""ImageNet at 64 x 64 with a U-Net of the size of DiT-XL/2 (Peebles & Xie 2023, arXiv 2212.09748: 675 million
parameters): that of `imagenet64`, wider, with 676.6 million. For a pod.
"""

import dataclasses

from configs import imagenet64

CONFIG = dataclasses.replace(
    imagenet64.CONFIG,
    network=imagenet64.CONFIG.network.clone(channels=256, multipliers=(1, 2, 3, 5)),
    optimizer=dataclasses.replace(imagenet64.CONFIG.optimizer, learning_rate=1e-4),
)
