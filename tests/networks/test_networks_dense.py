"""The dense layer beside Flax's: values, all derivatives, and how the derivative by the kernel is computed."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdiff.networks.layers.dense import Dense

X, KERNEL = np.random.default_rng(0).standard_normal((2, 3, 4, 5)), np.random.default_rng(1).standard_normal((5, 6))


def function(layer):
    return lambda x, kernel: layer(6, param_dtype=float).apply({"params": {"kernel": kernel, "bias": jnp.ones(6)}}, x)


def test_values_and_derivatives_are_those_of_flax():
    def everything(function):
        """Value, forward and reverse derivatives by both arguments, and second derivatives."""
        value, tangent = jax.jvp(function, (X, KERNEL), (X**2, KERNEL**2))
        gradient = jax.grad(lambda *both: jnp.sum(jnp.sin(function(*both))), (0, 1))
        return value, tangent, gradient(X, KERNEL), jax.jvp(gradient, (X, KERNEL), (X**2, KERNEL**2))[1]

    with jax.enable_x64(True):
        pairs = zip(*(jax.tree.leaves(everything(function(layer))) for layer in (Dense, nn.Dense)), strict=True)
        for mine, other in pairs:
            np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


def test_the_derivative_by_the_kernel_sums_over_one_axis():
    """XLA's compiler for CPUs runs sums over several axes slower."""

    def summed_axes(layer):
        by_kernel = jax.jit(lambda y: jax.vjp(lambda kernel: function(layer)(X, kernel), KERNEL)[1](y))
        lines = by_kernel.lower(jnp.ones((2, 3, 4, 6))).as_text().splitlines()
        [product] = [line for line in lines if "dot_general" in line]
        return product.split("contracting_dims = [")[1].split("]")[0].count(",") + 1

    assert (summed_axes(Dense), summed_axes(nn.Dense)) == (1, 3)
