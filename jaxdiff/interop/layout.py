"""The names of another library, and how its arrays become variables of our networks and back.

A layout maps the name of one of our arrays to the names of the arrays of which it is made. Our names are paths inside
"params", such as `down_0_block_1.conv_in.kernel`. Names of ours that end with `kernel` are arrays `[*window, in, out]`
here and `[out, in, *window]` there, as PyTorch has them. A dense layer here may be a convolution with a window of one
there. Several arrays there, such as the queries, keys and values of attention, are concatenated here along the last
axis. All other arrays are the same.

An array of a stack of layers (`trees.is_stacked`) is made of one such array per layer. A layout is asked for each layer
with its number after the name of the stack, such as `layers.3.attention.qkv.kernel`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import trees
from jaxdiff.checks import did_you_mean, require, shortened

# The names there of an array of ours, by its name here.
Layout = Callable[[str], tuple[str, ...]]


def from_foreign(
    shapes: PyTree,
    tensors: Mapping[str, np.ndarray],
    layout: Layout,
    ignored: Callable[[str], bool] = lambda name: False,
) -> PyTree:
    """Our parameters, made of the arrays of another library.

    Args:
      shapes: the parameters as shapes and types, of `jax.eval_shape`.
      tensors: the arrays by their names there.
      layout: the names there of an array of ours.
      ignored: whether an array there has no place here, by its name.

    Returns:
      A pytree like `shapes` of NumPy arrays of its types.

    Raises:
      ValueError: an array is missing, has another shape, is no array of floats, or has no place here.
    """
    left = set(tensors)

    def of_layer(name: str, shape: tuple[int, ...]) -> np.ndarray:
        parts, names = [], layout(name)
        for foreign in names:
            if foreign not in tensors:
                raise ValueError(f"the weights have no array {foreign!r}{did_you_mean(foreign, tensors)}")
            left.discard(foreign)
            array = np.asarray(tensors[foreign])
            require(
                jnp.issubdtype(array.dtype, jnp.floating), f"type of {foreign}", array.dtype, "floating-point types"
            )
            parts.append(_to_ours(array, len(shape)) if name.endswith("kernel") else array)
        length = sum(part.shape[-1] if part.ndim else 0 for part in parts)
        fits = len({part.shape[:-1] for part in parts}) == 1 and (*parts[0].shape[:-1], length) == shape
        theirs = [np.shape(tensors[foreign]) for foreign in names]
        require(fits, f"shape of {' and '.join(names)}", theirs, f"those of {name}, {shape}")
        return np.concatenate(parts, axis=-1)

    def made(path: Any, like: Any) -> np.ndarray:
        words = trees.words_of(path)
        if trees.is_stacked(words):
            layers = [of_layer(name, like.shape[1:]) for name in _names_of_layers(words, like.shape[0])]
            return np.stack(layers).astype(like.dtype)
        return of_layer(".".join(words), like.shape).astype(like.dtype)

    params = jax.tree_util.tree_map_with_path(made, shapes)
    spare = sorted(name for name in left if not ignored(name))
    if spare:
        raise ValueError(
            f"the weights have {len(spare)} arrays without a place in the network, such as {shortened(spare[0])!r}"
        )
    return params


def to_foreign(
    params: PyTree, layout: Layout, window: Callable[[str], tuple[int, ...]] = lambda name: ()
) -> dict[str, np.ndarray]:
    """The arrays of another library, made of our parameters: `from_foreign` undone.

    Args:
      params: our parameters.
      layout: the names there of an array of ours.
      window: the window, such as `(1, 1)`, of the convolution there that is a dense layer here, by its name there; `()`
        for a dense layer there.
    """
    tensors: dict[str, np.ndarray] = {}

    def write(name: str, array: np.ndarray) -> None:
        names = layout(name)
        for foreign, part in zip(names, np.split(array, len(names), axis=-1), strict=True):
            if name.endswith("kernel"):
                part = np.moveaxis(part, (-1, -2), (0, 1))
                part = part.reshape(*part.shape, *window(foreign)) if part.ndim == 2 else part
            tensors[foreign] = np.ascontiguousarray(part)

    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        words, array = trees.words_of(path), np.asarray(leaf)
        if trees.is_stacked(words):
            for name, layer in zip(_names_of_layers(words, len(array)), array, strict=True):
                write(name, layer)
        else:
            write(".".join(words), array)
    return tensors


def _to_ours(array: np.ndarray, ndim: int) -> np.ndarray:
    """A kernel `[out, in, *window]` as `[*window, in, out]`, or as `[in, out]` if all lengths of the window are 1."""
    if array.ndim < 2:
        return array
    moved = np.moveaxis(array, (0, 1), (-1, -2))
    window = moved.shape[:-2]
    return moved.reshape(moved.shape[-2:]) if ndim == 2 and set(window) <= {1} else moved


def _names_of_layers(words: tuple[str, ...], count: int) -> list[str]:
    """The names of the layers of an array of a stack."""
    place = next(i + 1 for i, word in enumerate(words) if trees.is_stacked((word, "")))
    return [".".join((*words[:place], str(i), *words[place:])) for i in range(count)]
