"""The refusal of denoisers whose networks have no forward-mode derivatives."""

from typing import Any

import jax

from jaxdiff.checks import require


def require_forward_mode(denoiser: Any, asker: str) -> None:
    """Checks the networks that are known inside a denoiser.

    A network says by its property `forward_mode` whether it has forward-mode derivatives. Fused kernels of attention
    have none. Functions that are no networks of `jaxdiff.networks` are not checked.

    Args:
      denoiser: a denoiser, around which may be others; or the `apply` of a network.
      asker: the function that needs the derivatives.

    Raises:
      ValueError: a network has no forward-mode derivatives.
    """
    for node in jax.tree.leaves(denoiser, is_leaf=lambda node: hasattr(node, "apply")):
        apply = getattr(node, "apply", node)
        network = getattr(getattr(apply, "func", apply), "network", None)
        allowed = f"networks with attention = 'xla', since {asker} needs forward-mode derivatives"
        require(getattr(network, "forward_mode", True), "network", type(network).__name__, allowed)
