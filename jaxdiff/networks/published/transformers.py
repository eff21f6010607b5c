"""The published diffusion transformers.

Numbers of parameters are those that are trained, with the conditions that the docstring names. The tests find them from
shapes.
"""

from jaxdiff.networks.layers.positions import SinCosPositions
from jaxdiff.networks.transformers.dit import DiT
from jaxdiff.networks.transformers.jit import JiT
from jaxdiff.networks.transformers.mmdit import MMDiT

# -------------------------------------------------------------------- DiT: `models.py` of facebookresearch/DiT
# For latents of 4 channels; the output has the variances too. With one condition of 1000 classes. The code counts its
# table of positions, which is not trained, among its parameters: 675,129,632 for XL/2 on latents of 32 x 32.


def dit_s(patch: int = 2) -> DiT:
    """DiT-S (Peebles & Xie 2023, arXiv 2212.09748): 32,865,056 parameters with patches of 2."""
    return DiT(width=384, depth=12, heads=6, patch=(patch,), out_channels=8)


def dit_b(patch: int = 2) -> DiT:
    """DiT-B (Peebles & Xie 2023, arXiv 2212.09748): 130,315,808 parameters with patches of 2."""
    return DiT(width=768, depth=12, heads=12, patch=(patch,), out_channels=8)


def dit_l(patch: int = 2) -> DiT:
    """DiT-L (Peebles & Xie 2023, arXiv 2212.09748): 457,840,672 parameters with patches of 2."""
    return DiT(width=1024, depth=24, heads=16, patch=(patch,), out_channels=8)


def dit_xl(patch: int = 2) -> DiT:
    """DiT-XL (Peebles & Xie 2023, arXiv 2212.09748): 674,834,720 parameters with patches of 2."""
    return DiT(width=1152, depth=28, heads=16, patch=(patch,), out_channels=8)


# ------------------------------------------------- MMDiT: the configurations in the folders of published weights
# For latents of 16 channels. With tokens of 4096 numbers and a vector of 2048, the pooled text. The time input runs to
# 1000.


def sd3_medium() -> MMDiT:
    """Stable Diffusion 3 medium (Esser et al. 2024, arXiv 2403.03206): 2,028,328,000 parameters."""
    return MMDiT()


def sd35_medium() -> MMDiT:
    """Stable Diffusion 3.5 medium (Esser et al. 2024, arXiv 2403.03206): 2,243,171,520 parameters."""
    return MMDiT(dual_depth=13, qk_norm=True, positions=SinCosPositions(base=(64,), table=(384,)))


def sd35_large() -> MMDiT:
    """Stable Diffusion 3.5 large (Esser et al. 2024, arXiv 2403.03206): 8,056,627,520 parameters."""
    return MMDiT(width=2432, depth=38, heads=38, qk_norm=True)


# -------------------------------------------------------------------------- JiT: `model_jit.py` of LTH14/JiT
# For pixels of 3 channels, with one condition of 1000 classes. Patches of 16 are for pictures of 256 x 256, and patches
# of 32 for 512 x 512.


def jit_b(patch: int = 16) -> JiT:
    """JiT-B (Li & He 2025, arXiv 2511.13720): 131,123,712 parameters with patches of 16."""
    return JiT(patch=(patch,))


def jit_l(patch: int = 16) -> JiT:
    """JiT-L (Li & He 2025, arXiv 2511.13720): 458,877,664 parameters with patches of 16."""
    return JiT(width=1024, depth=24, heads=16, patch=(patch,), context_start=8)


def jit_h(patch: int = 16) -> JiT:
    """JiT-H (Li & He 2025, arXiv 2511.13720), with a dropout of 0.2: 952,514,368 parameters with patches of 16."""
    return JiT(width=1280, depth=32, heads=16, patch=(patch,), bottleneck=256, context_start=10, dropout=0.2)
