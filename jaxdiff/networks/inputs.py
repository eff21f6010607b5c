"""The checks of arguments and settings that networks share, and the conditions by name."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdiff.checks import integer, one_of, require
from jaxdiff.networks.module import Spec

# A condition of tokens is itself a mapping: `{"values": [batch, n, d], "mask": [batch, n]}`.
Cond = ArrayLike | Mapping[str, ArrayLike | Mapping[str, ArrayLike]] | None
Specs = tuple[tuple[str, Spec], ...]


def check_settings(dtype: str | None, multipliers: tuple[int, ...] = (), **layers: int) -> None:
    """Checks settings that would fail late, or never, when a network is called. A network calls it when it is made.

    Args:
      dtype: the compute type.
      multipliers: one integer per level.
      layers: numbers of layers, by the name of the setting. A thousand layers take minutes to compile.

    Raises:
      ValueError: a setting is not allowed.
    """
    one_of("dtype", dtype, ("bfloat16", "float16", "float32", None))
    for multiplier in multipliers:
        integer("multipliers", multiplier)
    for name, number in layers.items():
        integer(name, number, least=0, most=1000)


def check_input(x: Array, time: ArrayLike) -> Array:
    """Checks the type of `x` and the shape of `time`, and returns `time` as an array.

    Raises:
      TypeError: `x` is not floating-point; integers are images that have not been scaled.
      ValueError: `time` does not have one entry, or two entries, per example.
    """
    time = jnp.asarray(time)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    require(floating, "x.dtype", x.dtype, "floating-point types", TypeError)
    batch = x.shape[0]
    allowed = f"{(batch,)}, one time per example, and {(batch, 2)}, two times per example"
    require(time.shape in ((batch,), (batch, 2)), "time.shape", time.shape, allowed)
    return time


def check_levels(
    x: Array,
    multipliers: tuple[int, ...],
    attention_levels: tuple[int, ...] = (),
    name: str = "x",
    *,
    temporal: bool = False,
) -> None:
    """Checks the shape of `x`, the argument `name`, and the levels of a network of convolutions.

    Raises:
      ValueError: `x` is not `[batch, *space, channels]` (with `temporal`: neither a video nor an image), there is no
        level, or attention has a level that is not there.
    """
    allowed = "[batch, *space, channels] with 1 to 3 axes of space"
    if temporal:
        allowed = "[batch, frames, height, width, channels] and [batch, height, width, channels]"
    require(x.ndim in ((4, 5) if temporal else (3, 4, 5)), f"{name}.shape", x.shape, allowed)
    levels = list(range(len(multipliers)))
    require(levels, "multipliers", multipliers, "tuples of at least one integer")
    fits = set(attention_levels) <= set(levels)
    require(fits, "attention_levels", attention_levels, f"tuples of the levels {levels}")


def compute_types(x: Array, dtype: str | None) -> tuple[Any, Any]:
    """The wide type, float32 or the wider type of `x`, and the compute type of a network with the setting `dtype`."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return wide, wide if dtype is None else jnp.dtype(dtype)


def read_cond(cond: Cond, specs: Specs, batch: int, space: tuple[int, ...] = ()) -> dict[str, Any]:
    """Checks `cond` against the conditions that a network is told, and returns its values by name.

    Args:
      cond: a mapping of names to values: classes, integers `[batch]`; vectors `[batch, d]`; planes
        `[batch, *space, c]`; tokens `{"values": [batch, n, d], "mask": [batch, n]}` with any n. A network with exactly
        one condition allows the bare value, unless it is tokens.
      specs: the conditions of the network.
      batch: number of examples.
      space: the spatial shape of the input, which planes have too.

    Returns:
      One array per condition; tokens as a mapping. A vector may be left out of `cond` and is then zero, which means
      nothing.

    Raises:
      ValueError: an entry is missing, unknown or of the wrong shape.
      TypeError: classes are not integers; vectors, planes or the values of tokens are not floating-point; a mask is not
        boolean; or `cond` is no mapping.
    """
    required = [name for name, spec in specs if spec.channel != "vector"]
    optional = [name for name, spec in specs if spec.channel == "vector"]
    allowed = f"{required}, with {optional} optional" if optional else f"{required}"
    allowed += ", the conditions of the network"
    bare_tokens = isinstance(cond, Mapping) and [spec.channel for _, spec in specs] == ["tokens"] and "values" in cond
    if cond is None or (isinstance(cond, Mapping) and not bare_tokens):
        given: Mapping[str, Any] = cond or {}
    else:
        require(len(specs) == 1, "type of cond", type(cond).__name__, f"mappings with the entries {allowed}", TypeError)
        given = {specs[0][0]: cond}
    fits = set(required) <= set(given) <= {*required, *optional}
    require(fits, "entries of cond", sorted(given), allowed)

    values: dict[str, Any] = {}
    for name, spec in specs:
        if spec.channel == "tokens":
            values[name] = _read_tokens(f"cond[{name!r}]", given[name], batch, spec.shape[1])
            continue
        shape = (batch, *space, spec.shape[-1]) if spec.channel == "planes" else (batch, *spec.shape)
        value = jnp.asarray(given[name]) if name in given else jnp.zeros(shape)
        require(value.shape == shape, f"cond[{name!r}].shape", value.shape, f"{shape}")
        kind, types = (jnp.integer, "integer") if spec.channel == "class" else (jnp.floating, "floating-point")
        good = jnp.issubdtype(value.dtype, kind)
        require(good, f"cond[{name!r}].dtype", value.dtype, f"{types} types", TypeError)
        values[name] = value
    return values


def _read_tokens(path: str, given: Any, batch: int, width: int) -> dict[str, Array]:
    """Tokens whose shapes and types are checked."""
    fits = isinstance(given, Mapping) and set(given) == {"values", "mask"}
    require(fits, path, type(given).__name__, 'mappings with the entries "values" and "mask"', TypeError)
    values, mask = jnp.asarray(given["values"]), jnp.asarray(given["mask"])
    good = values.ndim == 3 and (values.shape[0], values.shape[2]) == (batch, width) and values.shape[1] > 0
    require(good, f"{path}['values'].shape", values.shape, f"({batch}, n, {width})")
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    require(floating, f"{path}['values'].dtype", values.dtype, "floating-point types", TypeError)
    require(mask.shape == values.shape[:2], f"{path}['mask'].shape", mask.shape, f"{values.shape[:2]}")
    require(mask.dtype == bool, f"{path}['mask'].dtype", mask.dtype, "bool", TypeError)
    return {"values": values, "mask": mask}


def with_planes(
    x: Float[Array, "batch *space channels"], given: Mapping[str, Any], specs: Specs, dtype: DTypeLike
) -> Float[Array, "batch *space more_channels"]:
    """Concatenates `x` and the conditions of the channel `planes`, in the type `dtype`."""
    planes = [given[name] for name, spec in specs if spec.channel == "planes"]
    return jnp.concatenate([part.astype(dtype) for part in (x, *planes)], axis=-1) if planes else x.astype(dtype)
