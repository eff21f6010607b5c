import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_variables():
    """Random variables of a network. In fresh variables, layers that start at zero hide the layers before them."""

    def make(network, *arguments, seed=0):
        shapes = jax.eval_shape(lambda key: network.init(key, *arguments), jax.random.key(0))
        generator = np.random.default_rng(seed)

        def leaf(path, shape):
            fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) > 1 else 4
            values = generator.standard_normal(shape.shape) / np.sqrt(fan_in)
            return jnp.asarray(values + (path[-1].key == "scale"), shape.dtype)

        return jax.tree.map_with_path(leaf, shapes)

    return make
