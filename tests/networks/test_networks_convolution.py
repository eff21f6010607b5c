"""The convolution beside JAX's own: values, all derivatives, and the order of channels that XLA's compiler wants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxdiff.networks.layers.convolution import convolve

CASES = {
    "plain": ((2, 5, 4, 3), {}),
    "strided": ((2, 5, 4, 3), {"strides": 2, "padding": 1}),
    "signal": ((2, 7, 3), {"strides": 2}),
    "volume": ((1, 3, 4, 2, 3), {"padding": "VALID"}),
    "strided within rows": ((2, 6, 7, 3), {"strides": (1, 2)}),
    "strided across rows": ((2, 6, 7, 3), {"strides": (2, 1), "padding": ((0, 2), (3, 0))}),
    "around the border": ((2, 5, 4, 3), {"padding": "CIRCULAR"}),
    "grouped, dilated": ((2, 6, 6, 3), {"feature_group_count": 3, "kernel_dilation": 2}),
}


@pytest.fixture(scope="module", params=CASES)
def functions(request):
    """Our layer and Flax's as functions of input and kernel, and their arguments in float64."""
    shape, options = CASES[request.param]
    window = (3,) * (len(shape) - 2) if "VALID" not in options.values() else (2,) * (len(shape) - 2)
    layers = [nn.Conv(6, window, param_dtype=float, conv_general_dilated=by, **options) for by in (convolve, None)]
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
        params = layers[0].init(jax.random.key(0), x)
        kernel = jnp.asarray(np.random.default_rng(1).standard_normal(params["params"]["kernel"].shape))

    def function(layer):
        return lambda x, kernel: layer.apply({"params": {**params["params"], "kernel": kernel}}, x)

    return *map(function, layers), x, kernel


def test_values_and_derivatives_are_those_of_jax(functions):
    ours, theirs, x, kernel = functions

    def everything(function):
        """Value, forward and reverse derivatives by both arguments, and second derivatives."""
        value, tangent = jax.jvp(function, (x, kernel), (x**2, kernel**2))
        gradient = jax.grad(lambda *both: jnp.sum(jnp.sin(function(*both))), (0, 1))
        return value, tangent, gradient(x, kernel), jax.jvp(gradient, (x, kernel), (x**2, kernel**2))[1]

    with jax.enable_x64(True):
        for mine, other in zip(*map(jax.tree.leaves, (everything(ours), everything(theirs))), strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)


def test_the_derivative_by_the_input_has_the_usual_order_of_channels(functions):
    """Within loops, XLA's compiler for CPUs runs convolutions in another order ten times slower."""
    ours, _, x, kernel = functions
    with jax.enable_x64(True):
        y = ours(x, kernel)
        jaxpr = jax.make_jaxpr(lambda y: jax.vjp(lambda x: ours(x, kernel), x)[1](y))(y)
    last = x.ndim - 1
    [transpose] = [
        e for e in jaxpr.eqns if e.primitive.name == "conv_general_dilated" and jaxpr.jaxpr.invars[0] in e.invars
    ]
    numbers = transpose.params["dimension_numbers"]
    assert numbers.lhs_spec[:2] == numbers.out_spec[:2] == (0, last)
    assert numbers.rhs_spec[:2] == (last, last - 1)


def test_the_derivative_by_the_kernel_is_products_on_cpus_and_a_convolution_elsewhere(functions, request):
    ours, theirs, x, kernel = functions
    grouped = request.node.callspec.params["functions"] == "grouped, dilated"

    def lowered(function, platform):
        by_kernel = jax.jit(lambda y: jax.vjp(lambda kernel: function(x, kernel), kernel)[1](y))
        return by_kernel.trace(theirs(x, kernel)).lower(lowering_platforms=(platform,)).as_text()

    with jax.enable_x64(True):
        assert ("stablehlo.convolution" in lowered(ours, "cpu")) is grouped
        assert lowered(ours, "cuda").count("stablehlo.convolution") == lowered(theirs, "cuda").count(
            "stablehlo.convolution"
        )
