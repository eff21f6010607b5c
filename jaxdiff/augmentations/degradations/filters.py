"""Random filters: kernels of random odd sizes, and their application to a picture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxdiff.checks import integer, require


def check_sizes(least: int, most: int) -> None:
    """Raises a ValueError unless the settings `size_min` and `size_max` are a range of odd sizes."""
    for name, size in (("size_min", least), ("size_max", most)):
        integer(name, size, 3)
        require(size % 2, name, size, "odd integers of at least 3")
    require(least <= most, "size_max", most, f"odd integers of at least size_min, {least}")


def check_sides(shape: tuple[int, ...]) -> None:
    """Raises a ValueError if the picture is too small for its reflection at the border."""
    require(min(shape[:2]) >= 2, "shape of the picture", shape, "[h, w, c] with sides of at least 2 pixels")


def grid(size: int) -> tuple[Float[Array, "size size"], Float[Array, "size size"]]:
    """The coordinates x and y of the entries of a kernel, relative to its centre."""
    along = jnp.arange(size, dtype=jnp.float32) - size // 2
    return along[None, :] + 0 * along[:, None], along[:, None] + 0 * along[None, :]


def random_square(key: Key[Array, ""], least: int, most: int) -> Bool[Array, "most most"]:
    """The entries of a kernel that are inside a square of a random odd side from `least` to `most`."""
    radius = jax.random.randint(key, (), least // 2, most // 2 + 1)
    x, y = grid(most)
    return jnp.maximum(jnp.abs(x), jnp.abs(y)) <= radius


def filtered(image: Float[Array, "h w c"], kernel: Float[Array, "size size"]) -> Float[Array, "h w c"]:
    """The correlation of each channel with a kernel, which is first divided by its sum.

    The picture continues beyond its border as its reflection, without repeating the outermost pixels. The entries of
    the kernel are added one after another, and not by a Fourier transform: XLA would gather a whole batch on every
    device for a transform.
    """
    size = kernel.shape[0]
    kernel = kernel / jnp.sum(kernel)
    margin = size // 2
    padded = jnp.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")

    def add(i: Array, total: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        row, column = i // size, i % size
        return total + kernel[row, column] * jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)

    return jax.lax.fori_loop(0, size * size, add, jnp.zeros_like(image))
