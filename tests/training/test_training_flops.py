"""Floating-point operations are held to counts by hand and to XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import UNet
from jaxdiff.training.flops import flops_of


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolution(x, kernel, stride=1, padding="VALID", groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout, feature_group_count=groups
    )


def test_operations_of_products_and_convolutions_equal_counts_by_hand():
    assert flops_of(lambda a, b: jnp.tanh(a @ b), shape(5, 7), shape(7, 11)) == 2 * 5 * 7 * 11

    def attention(q, k):
        return jnp.einsum("bqhd,bkhd->bhqk", q, k)

    assert flops_of(attention, shape(2, 10, 3, 4), shape(2, 9, 3, 4)) == 2 * (2 * 3) * 10 * 9 * 4
    x = shape(2, 9, 9, 6)
    assert flops_of(convolution, x, shape(3, 3, 6, 5)) == 2 * (2 * 7 * 7 * 5) * (3 * 3 * 6)

    def grouped(x, kernel):
        return convolution(x, kernel, groups=3)

    assert flops_of(grouped, x, shape(3, 3, 2, 12)) == 2 * (2 * 7 * 7 * 12) * (3 * 3 * 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_of_a_layer_costs_twice_the_layer(stride):
    # The gradient of each factor repeats every multiplication of the layer once. With 8 pixels and stride 2, the windows
    # cover the picture without a rest.
    x, kernel = shape(2, 8, 8, 6), shape(2, 2, 6, 5)

    def layer(x, kernel):
        return convolution(x, kernel, stride)

    def loss(x, kernel):
        return jnp.sum(layer(x, kernel) ** 2)

    forward = flops_of(layer, x, kernel)
    both = flops_of(jax.grad(loss, argnums=(0, 1)), x, kernel)
    weights = flops_of(jax.grad(loss, argnums=1), x, kernel)
    assert weights == 2 * forward
    # The gradient of the picture is counted with the zeros around it, like padding.
    padded = 1 if stride == 2 else (8 / 7) ** 2
    assert both == pytest.approx(2 * forward + forward * padded)


def test_the_body_of_a_scan_counts_once_per_iteration_and_inner_programs_count():
    a, b, once = shape(4, 4), shape(4, 4), 2 * 4**3
    product = jax.jit(lambda a, b: a @ b)
    assert flops_of(lambda a, b: product(product(a, b), b), a, b) == 2 * once

    def scanned(a, b):
        return jax.lax.scan(lambda a, _: (product(a, b), None), a, None, length=7)[0]

    assert flops_of(scanned, a, b) == 7 * once
    assert flops_of(lambda a, b: jax.lax.fori_loop(0, 3, lambda _, a: scanned(a, b), a), a, b) == 21 * once

    def chosen(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: product(a, b), lambda: product(product(a, b), b))

    assert flops_of(chosen, a, b) == 2 * once
    assert flops_of(lambda a: a + 1, a) == 0

    # The gradient of a product is two products, and rematerialisation computes the product once more.
    def loss(a, b):
        return jnp.sum(jnp.sin(product(a, b)))

    plain = flops_of(jax.grad(loss, argnums=(0, 1)), a, b)
    again = flops_of(jax.grad(jax.checkpoint(loss), argnums=(0, 1)), a, b)
    assert (plain, again) == (3 * once, 4 * once)


def test_the_operations_of_a_network_agree_with_xla():
    network = UNet(channels=32, multipliers=(1, 2), num_blocks=1, attention_levels=(1,))
    x, t = shape(4, 16, 16, 3), shape(4)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.zeros(1)))

    def loss(params, x, t):
        return jnp.mean(network.apply(params, x, t) ** 2)

    loss = jax.jit(loss)
    for function in (loss, jax.jit(jax.grad(loss))):
        ours = flops_of(function, params, x, t)
        xla = function.lower(params, x, t).cost_analysis()["flops"]
        # Unlike `flops_of`, XLA counts norms and activations, and leaves padding out.
        assert np.log(ours / xla) == pytest.approx(0, abs=0.1)
