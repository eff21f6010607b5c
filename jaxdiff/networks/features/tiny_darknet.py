"""Tiny Darknet: a small classifier of ImageNet, whose hidden states serve as features of pictures."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdiff.checks import require
from jaxdiff.networks.inputs import compute_types
from jaxdiff.networks.layers.convolution import Conv
from jaxdiff.networks.module import Network

# The width of the kernel and the features of each convolution.
_LAYERS = (
    (3, 16), (3, 32), (1, 16), (3, 128), (1, 16), (3, 128), (1, 32), (3, 256), (1, 32), (3, 256), (1, 64), (3, 512),
    (1, 64), (3, 512), (1, 128), (1, 1000),
)  # fmt: skip
# Max pooling halves the resolution after these convolutions.
_HALVING = (0, 1, 5, 9)
_SLOPE = 0.1


class TinyDarknet(Network):
    """Tiny Darknet (J. Redmon, pjreddie.com/darknet, public domain): 16 convolutions, 1,039,912 parameters.

        h = leaky_relu(conv(h))      and 2x2 max pooling after the convolutions 0, 1, 5 and 9
        logits = mean over space of the last convolution

    The batch norms of the original are parts of the convolutions. Pictures are RGB in [-1, 1], with sides that are
    multiples of 16; the network was trained with 224 pixels. `read` takes its weights.

    Attributes:
      dtype: compute type, such as `"bfloat16"`; None for float32, or float64 if the input is float64.
    """

    gives: ClassVar[Any] = "vector"
    hidden: ClassVar[str] = r"^conv_(?!(0|15)\.).+\.kernel$"

    dtype: str | None = None

    @nn.compact
    def states(self, x: Float[Array, "batch height width 3"]) -> tuple[Float[Array, "batch *space features"], ...]:
        """The results of all convolutions, after their activations and before pooling.

        Args:
          x: pictures `[batch, height, width, 3]` in [-1, 1].

        Returns:
          16 arrays. Array i has the resolution of convolution i. The last one has a channel for each class.

        Raises:
          ValueError: `x` has another shape.
          TypeError: `x` is not floating-point.
        """
        x = jnp.asarray(x)
        require(jnp.issubdtype(x.dtype, jnp.floating), "x.dtype", x.dtype, "floating-point types", TypeError)
        fits = x.ndim == 4 and x.shape[-1] == 3 and all(length and length % 16 == 0 for length in x.shape[1:3])
        require(fits, "x.shape", x.shape, "[batch, height, width, 3] with sides that are multiples of 16")
        _, dtype = compute_types(x, self.dtype)
        h, states = (x.astype(dtype) + 1) / 2, []
        for i, (width, features) in enumerate(_LAYERS):
            window = (width, width)
            h = Conv(features, window, dtype=dtype, name=f"conv_{i}")(h)
            h = nn.leaky_relu(h, _SLOPE) if i < len(_LAYERS) - 1 else h
            states.append(h)
            if i in _HALVING:
                h = nn.max_pool(h, (2, 2), (2, 2))
        return tuple(states)

    @staticmethod
    def read(arrays: Mapping[str, ArrayLike]) -> PyTree:
        """The variables of the arrays `w0`, `b0` to `w15`, `b15` of the published file, kernels `[*window, in, out]`.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        shapes = jax.eval_shape(TinyDarknet().init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
        params: dict[str, dict[str, Any]] = {layer: {} for layer in shapes}
        for layer, leaves in shapes.items():
            for leaf, like in leaves.items():
                name = ("w" if leaf == "kernel" else "b") + layer.removeprefix("conv_")
                require(name in arrays, "names of arrays", sorted(arrays)[:4], "w0, b0, ..., w15, b15")
                shape = np.shape(arrays[name])
                require(shape == like.shape, f"shape of {name}", shape, f"{like.shape}")
                params[layer][leaf] = jnp.asarray(arrays[name], jnp.float32)
        return {"params": params}

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch 1000"]:
        """The logits of the classes, `[batch, 1000]`. Arguments and errors are those of `states`."""
        return self.states(x)[-1].mean(axis=(1, 2))

    def features(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch 128"]:
        """One vector per picture, `[batch, 128]`: the mean over space of the last hidden state."""
        return self.states(x)[14].mean(axis=(1, 2))

    def compared(
        self, x: Float[Array, "batch height width channels"]
    ) -> tuple[Float[Array, "batch *space features"], ...]:
        """The hidden states that perceptual distances compare: the last one before each halving, and one at the end.

        Grey pictures count as three equal channels. Sides are stretched to multiples of 16.
        """
        height, width = (-(-length // 16) * 16 for length in x.shape[1:3])
        rgb = jnp.broadcast_to(x, (*x.shape[:3], 3))
        states = self.states(jax.image.resize(rgb, (len(rgb), height, width, 3), "bilinear"))
        return tuple(states[i] for i in (*_HALVING, 13))
