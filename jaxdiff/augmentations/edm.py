"""EDM's augmentation: random geometric transformations that the network is told of, so that samples show none.

Karras et al. 2022 (EDM, arXiv 2206.00364), appendix F.2 and table 6. Parameters are drawn as there: a0 always, the
others with probability p each (a4 and a5 together, a6 and a7 together), and are 0 otherwise, as they are when sampling.
The image is, in this order and about its centre,

| treated so | with | of which the network is told |
|---|---|---|
| mirrored left to right if a0 | a0 in {0, 1} | a0 |
| mirrored upside down if a1 | a1 in {0, 1} | a1 |
| scaled by 2^(0.2 a2) | a2 ~ N(0, 1) | a2 |
| turned by a3, anti-clockwise as seen | a3 ~ U(-pi, pi) | cos a3 - 1, sin a3 |
| stretched by 2^(0.2 a5) along a4, shrunk so across | a4 ~ U(-pi, pi), a5 ~ N(0, 1) | a5 cos a4, a5 sin a4 |
| moved by a6/8 of the width to the right, a7/8 of the height down | a6, a7 ~ N(0, 1) | a6, a7 |

The labels are all 0 only for what has not been treated. They tell all but one thing: a stretch along a direction and a
shrinking by as much along it, a5 and -a5, have the labels of each other's opposite direction.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff import trees

AUGMENTATION_FEATURES = 9

SCALE = 0.2  # standard deviation of log2 of the scale and of the stretch
SHIFT = 0.125  # standard deviation of the translation, in widths and heights


def augment(
    key: Key[Array, "*batch"], images: Float[Array, "batch height width channels"], probability: float
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch 9"]]:
    """EDM's augmentation of a batch, and what the network is to be told of it.

    An image depends on its own key alone. All but mirrors are done at once by `resample`; an image that nothing else
    befalls keeps its pixels' values. As interpolation overshoots at edges, values may leave [-1, 1] a little.

    It mirrors images already: those of a set must not be mirrored before, unlabelled (`flip` of `training_batches`).

    Args:
      key: one key, or one key per example.
      images: floating-point; not necessarily square.
      probability: of each transformation but the mirror left to right, which has 1/2; 0 does nothing at all. EDM takes
        0.12 for CIFAR-10 and 0.15 for FFHQ and AFHQv2.

    Returns: the images and their labels, in the order of the table.

    Raises:
      TypeError: `images` are not floating-point.
      ValueError: `images` are not `[batch, height, width, channels]`, or a side has fewer than 4 pixels; `key` is that
        of another number of examples; a `probability` outside of [0, 1].
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images has dtype {images.dtype}; allowed are floating-point types")
    if images.ndim != 4 or min(images.shape[1:3]) < 4:
        raise ValueError(
            f"images has shape {images.shape}; allowed is [batch, height, width, channels] with sides from 4 pixels"
        )
    if not isinstance(probability, jax.core.Tracer) and not 0 <= probability <= 1:
        raise ValueError(f"probability = {probability}; allowed are numbers from 0 to 1")
    parameters = jax.vmap(draw_parameters, (0, None))(trees.example_keys(key, images.shape[0]), probability)
    return jax.vmap(transform)(images, parameters), jax.vmap(labels_of)(parameters)


def draw_parameters(key: Key[Array, ""], probability: float) -> Float[Array, " 8"]:
    """The parameters a0 .. a7 of one image, 0 where nothing is done."""
    happens_key, coin_key, angle_key, normal_key = trees.split(key, 4)
    happens = jax.random.uniform(happens_key, (5,)) < probability
    mirror, upside_down = jax.random.bernoulli(coin_key, 0.5, (2,))
    turn, direction = jax.random.uniform(angle_key, (2,), minval=-jnp.pi, maxval=jnp.pi)
    scale, stretch, right, down = jax.random.normal(normal_key, (4,))
    drawn = jnp.stack([mirror, upside_down, scale, turn, direction, stretch, right, down])
    return jnp.where(
        jnp.concatenate([jnp.asarray([probability > 0]), happens[jnp.asarray([0, 1, 2, 3, 3, 4, 4])]]), drawn, 0.0
    )


def labels_of(parameters: Float[Array, " 8"]) -> Float[Array, " 9"]:
    """What the network is told of the parameters of one image; angles as points, so that -pi is next to pi."""
    mirror, upside_down, scale, turn, direction, stretch, right, down = parameters
    turned = jnp.cos(turn) - 1, jnp.sin(turn)
    stretched = stretch * jnp.cos(direction), stretch * jnp.sin(direction)
    return jnp.stack([mirror, upside_down, scale, *turned, *stretched, right, down])


def transform(
    image: Float[Array, "height width channels"], parameters: Float[Array, " 8"]
) -> Float[Array, "height width channels"]:
    """One image, transformed by given parameters a0 .. a7."""
    height, width, _ = image.shape
    mirror, upside_down, scale, turn, direction, stretch, right, down = parameters
    image = jnp.where(mirror > 0.5, image[:, ::-1], image)
    image = jnp.where(upside_down > 0.5, image[::-1], image)
    # In (x, y) with y downwards, a positive angle of the matrix turns clockwise.
    along, across = 2.0 ** (SCALE * stretch), 2.0 ** (-SCALE * stretch)
    stretching = _product(_rotation(direction) * jnp.stack([along, across]), _rotation(-direction))
    matrix = 2.0 ** (SCALE * scale) * _product(stretching, _rotation(-turn))
    moved = resample(image, matrix, SHIFT * jnp.stack([right * width, down * height]))
    return jnp.where(jnp.any(parameters[2:] != 0), moved, image)


def resample(
    image: Float[Array, "height width channels"], matrix: Float[Array, "2 2"], shift: Float[Array, " 2"]
) -> Float[Array, "height width channels"]:
    """The image seen through an affine map: what was at `c + v` comes to lie at `c + matrix v + shift`.

    Beyond its border the image goes on as its reflection, the outermost pixels not repeated. Pixels in between are
    found by Keys' six-point cubic convolution (1981, IEEE Trans. ASSP 29, 1153: of fourth order, exact for cubic
    polynomials), along rows and along columns. Where the map shrinks, the kernel is widened in the source as much,
    against aliasing, for rows and for columns. EDM does the like with a wavelet filter (sym6) on a grid twice as fine
    and linear interpolation there; the finest detail comes out a little different.

    Written as products with matrices of all weights, most of which are 0: accelerators are fast at that and slow at
    gathering. It takes about 2 (height width)^2 channels operations and height width (2 width + channels width) numbers
    of memory: 7 MB for a 64x64 image, about the largest that it is fit for.

    Args:
      image: any values.
      matrix, shift: in pixels, in the order (x, y), y downwards; c is the centre of the image. Not singular.
    """
    height, width, _ = image.shape
    (a, b), (c, d) = matrix
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    x = jnp.arange(width) - centre_x - shift[0]
    y = (jnp.arange(height) - centre_y - shift[1])[:, None]
    source_x = inverse[0, 0] * x + inverse[0, 1] * y + centre_x
    source_y = inverse[1, 0] * x + inverse[1, 1] * y + centre_y
    # How far neighbours in the result lie apart in the source, along either of its axes.
    spread_x, spread_y = jnp.maximum(1.0, jnp.sqrt(jnp.sum(inverse**2, axis=1)))
    rows = _weights(source_y, height, spread_y)
    columns = _weights(source_x, width, spread_x)
    # The highest precision: accelerators would round the pixels to fewer bits.
    gathered = jnp.einsum("yxh,hwc->yxwc", rows, image, precision="highest")
    return jnp.einsum("yxw,yxwc->yxc", columns, gathered, precision="highest").astype(image.dtype)


def _weights(
    position: Float[Array, "height width"], size: int, spread: Float[Array, ""]
) -> Float[Array, "height width size"]:
    """How much each of the `size` pixels along an axis counts at `position`, reflections included; the sum is 1."""
    period = 2 * (size - 1)
    folded = (size - 1) - jnp.abs(jnp.mod(position, period) - (size - 1))
    pixel = jnp.arange(size)
    weights = _kernel((folded[..., None] - pixel) / spread)
    # The first and the last pixel are their own reflections.
    weights += jnp.where(pixel > 0, _kernel((folded[..., None] + pixel) / spread), 0.0)
    weights += jnp.where(pixel < size - 1, _kernel((folded[..., None] - (period - pixel)) / spread), 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _kernel(distance: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keys' fourth-order kernel, factored so that it is exactly 1 at 0 and 0 at all other whole numbers."""
    s = jnp.abs(distance)
    near = (1 - s) * (1 + s - 4 / 3 * s**2)
    middle = (s - 1) * (s - 2) * (15 - 7 * s) / 12
    far = (s - 2) * (s - 3) ** 2 / 12
    return jnp.where(s < 1, near, jnp.where(s < 2, middle, jnp.where(s < 3, far, 0.0)))


def _product(left: Float[Array, "2 2"], right: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    # Accelerators, unasked, multiply with so few bits that pixels would be off by a tenth of their distance.
    return jnp.matmul(left, right, precision="highest")


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
