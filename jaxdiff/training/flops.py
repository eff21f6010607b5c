"""The number of floating-point operations of a function, counted in the program that JAX traces."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


def flops_of(function: Callable[..., Any], *args: PyTree) -> float:
    """Returns the number of floating-point operations of the matrix products and convolutions of a function.

    A multiplication and an addition count as two operations. Other operations do not count; a network has few of them.
    The count needs no device and is the same for all devices. The body of a scan counts once per iteration, and the
    body of a loop of unknown length counts once. A condition counts as its most expensive branch. Results that are
    computed again to save memory count again: for the operations of the model alone, count a step without
    rematerialisation. Zeros that pad a convolution count, as is usual. Zeros that dilate its input do not count.

    Args:
      function: any function that JAX can trace, such as the pure step with the whole batch.
      args: arguments of `function`, or `jax.ShapeDtypeStruct`s in their place.
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
    """The inner programs that a parameter of an operation holds."""
    if isinstance(value, tuple | list):
        return [part for item in value for part in _jaxprs(item)]
    value = getattr(value, "jaxpr", value)  # a closed program holds the program itself and its constants
    return [value] if hasattr(value, "eqns") else []
