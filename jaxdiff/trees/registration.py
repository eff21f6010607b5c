"""Dataclasses as pytrees."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Makes a dataclass a pytree: fields are children, or part of the structure if their metadata say `static=True`.

    `jax.tree_util.register_dataclass` (JAX 0.10 to 0.12) is not used: the structures that it makes compare equal even
    for different classes. Two processes with equally many numbers could then share one compiled program.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    children = tuple(field.name for field in fields if not field.metadata.get("static"))
    static = tuple(field.name for field in fields if field.metadata.get("static"))

    def flatten(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, name) for name in children), tuple(getattr(node, name) for name in static)

    def flatten_with_keys(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (
            tuple((jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in children),
            tuple(getattr(node, name) for name in static),
        )

    def unflatten(values: tuple[Any, ...], leaves: Iterable[Any]) -> T:
        node = object.__new__(cls)  # without `__init__`, whose checks JAX's placeholders would fail
        for name, value in (*zip(children, leaves, strict=True), *zip(static, values, strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
