"""How many floating-point operations a function asks for, counted from what JAX traces."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


def flops_of(function: Callable[..., Any], *args: PyTree) -> float:
    """The floating-point operations of a function's matrix products and convolutions, a multiplication and an addition
    each; what is left out is little in a network.

    Counted from what JAX traces, so without a device and alike on all of them. A scan counts as often as it turns, a
    loop of unknown length once, and of the branches of a condition the longest. What is computed twice to save memory
    counts twice: for the model's own operations, count a step without rematerialisation. The zeros that pad a
    convolution count as numbers, as is usual, those that stretch one do not.

    Args:
      function: any function that JAX can trace: the pure step, with the whole batch, before it is spread over devices.
      args: its arguments, or `jax.ShapeDtypeStruct`s in their place.
    """
    return _flops(jax.make_jaxpr(function)(*args).jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            per_output = kernel.size / features / math.prod(params["lhs_dilation"])
            total += 2 * equation.outvars[0].aval.size * per_output
        else:
            inner = [_flops(part) for value in params.values() for part in _jaxprs(value)]
            if name == "cond":
                total += max(inner)
            else:
                total += sum(inner) * (params["length"] if name == "scan" else 1)
    return total


def _jaxprs(value: Any) -> list[Any]:
    """The programs in a parameter of an operation."""
    if isinstance(value, tuple | list):
        return [part for item in value for part in _jaxprs(item)]
    value = getattr(value, "jaxpr", value)  # of a closed one, the program without its constants
    return [value] if hasattr(value, "eqns") else []
