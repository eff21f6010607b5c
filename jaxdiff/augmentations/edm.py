"""EDM's augmentation: random geometric transformations of images.

Nine augmentation features tell the network the transformation, so samples drawn with features 0 are not transformed.

Karras et al. 2022 (EDM, arXiv 2206.00364), appendix F.2 and table 6. The parameter a0 is always drawn. Each other
parameter is drawn with probability p (a4 and a5 together, a6 and a7 together) and is 0 otherwise. The image is
transformed about its centre in this order:

| transformation | parameters | augmentation features |
|---|---|---|
| mirrored left to right if a0 | a0 in {0, 1} | a0 |
| mirrored upside down if a1 | a1 in {0, 1} | a1 |
| scaled by 2^(0.2 a2) | a2 ~ N(0, 1) | a2 |
| turned by a3, anti-clockwise | a3 ~ U(-pi, pi) | cos a3 - 1, sin a3 |
| stretched by 2^(0.2 a5) along a4, shrunk by as much across | a4 ~ U(-pi, pi), a5 ~ N(0, 1) | a5 cos a4, a5 sin a4 |
| moved by a6/8 of the width to the right, a7/8 of the height down | a6, a7 ~ N(0, 1) | a6, a7 |

All features are 0 only for an image that is not transformed. The features determine the transformation, with one
exception: (a4, a5) and (a4 + pi, -a5) have the same features, but one stretches where the other shrinks.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxdiff import trees
from jaxdiff.augmentations.augmentation import Augmentation, check_new, find
from jaxdiff.checks import fraction, require
from jaxdiff.data.fields import Field
from jaxdiff.data.pixels import to_floats

AUGMENTATION_FEATURES = 9

LEAST_SIDE = 4  # in pixels
SCALE = 0.2  # standard deviation of log2 of the scale and of the stretch
SHIFT = 0.125  # standard deviation of the translation, in widths and heights


@dataclasses.dataclass(frozen=True)
class EDM(Augmentation):
    """EDM's augmentation of pictures: `augment`. The pictures become float32.

    The model needs the condition `Vector(field="augmentation")`, which tells the network the transformation.

    Attributes:
      field: the field of the pictures.
      probability: the probability of each transformation except the mirror left to right, whose probability is 1/2. 0
        turns off all transformations.
      to: the field of the nine augmentation features, which is added.
    """

    field: str = "image"
    probability: float = 0.12
    to: str = "augmentation"

    def __post_init__(self) -> None:
        fraction("probability", self.probability)

    def __call__(self, keys: Key[Array, " batch"], batch: Mapping[str, Array]) -> dict[str, Array]:
        images, features = augment(keys, to_floats(batch[self.field]).astype(jnp.float32), self.probability)
        return {**batch, self.field: images, self.to: features}

    def fields(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        field = find(fields, self.field, ("picture",))
        check_new(fields, self.to)
        large = min(field.shape[:2]) >= LEAST_SIDE
        require(large, f"shape of {self.field}", field.shape, f"[h, w, c] with sides of at least {LEAST_SIDE} pixels")
        features = Field("values", (AUGMENTATION_FEATURES,), "float32")
        return {**fields, self.field: dataclasses.replace(field, dtype="float32"), self.to: features}


def augment(
    key: Key[Array, "*batch"], images: Float[Array, "batch height width channels"], probability: float
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch 9"]]:
    """Applies EDM's augmentation to a batch, and returns its augmentation features.

    The transformation of an image depends on its own key alone. `resample` does all transformations but the mirrors in
    one interpolation. An image that is at most mirrored keeps its exact values. Interpolation overshoots at edges, so
    values may lie a little outside [-1, 1].

    The images must not be mirrored beforehand (`Flip`): no feature would tell the network.

    Args:
      key: one key, or one key per example.
      images: floating-point; not necessarily square.
      probability: the probability of each transformation except the mirror left to right, whose probability is 1/2. 0
        also turns off this mirror. EDM uses 0.12 for CIFAR-10 and 0.15 for FFHQ and AFHQv2.

    Returns:
      The images, and their features in the order of the table above.

    Raises:
      TypeError: `images` are not floating-point.
      ValueError: `images` are not `[batch, height, width, channels]`, or a side is below 4 pixels; the number of keys
        is not the batch size; `probability` is outside [0, 1].
    """
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    require(floating, "images.dtype", images.dtype, "floating-point types", TypeError)
    good = images.ndim == 4 and min(images.shape[1:3]) >= LEAST_SIDE
    require(good, "images.shape", images.shape, "[batch, height, width, channels] with sides of at least 4 pixels")
    if not trees.traced(probability):
        fraction("probability", probability)
    parameters = jax.vmap(draw_parameters, (0, None))(trees.example_keys(key, images.shape[0]), probability)
    return jax.vmap(transform)(images, parameters), jax.vmap(features_of)(parameters)


def draw_parameters(key: Key[Array, ""], probability: float) -> Float[Array, " 8"]:
    """Draws the parameters a0 to a7 of one image. The parameters of transformations that do not happen are 0."""
    happens_key, coin_key, angle_key, normal_key = trees.split(key, 4)
    happens = jax.random.uniform(happens_key, (5,)) < probability
    mirror, upside_down = jax.random.bernoulli(coin_key, 0.5, (2,))
    turn, direction = jax.random.uniform(angle_key, (2,), minval=-jnp.pi, maxval=jnp.pi)
    scale, stretch, right, down = jax.random.normal(normal_key, (4,))
    drawn = jnp.stack([mirror, upside_down, scale, turn, direction, stretch, right, down])
    return jnp.where(
        jnp.concatenate([jnp.asarray([probability > 0]), happens[jnp.asarray([0, 1, 2, 3, 3, 4, 4])]]), drawn, 0.0
    )


def features_of(parameters: Float[Array, " 8"]) -> Float[Array, " 9"]:
    """The augmentation features of the parameters of one image. Angles become points on circles."""
    mirror, upside_down, scale, turn, direction, stretch, right, down = parameters
    turned = jnp.cos(turn) - 1, jnp.sin(turn)
    stretched = stretch * jnp.cos(direction), stretch * jnp.sin(direction)
    return jnp.stack([mirror, upside_down, scale, *turned, *stretched, right, down])


def transform(
    image: Float[Array, "height width channels"], parameters: Float[Array, " 8"]
) -> Float[Array, "height width channels"]:
    """Transforms one image by the parameters a0 to a7."""
    height, width, _ = image.shape
    mirror, upside_down, scale, turn, direction, stretch, right, down = parameters
    image = jnp.where(mirror > 0.5, image[:, ::-1], image)
    image = jnp.where(upside_down > 0.5, image[::-1], image)
    # In coordinates (x, y) with y downwards, a rotation matrix with a positive angle turns clockwise.
    along, across = 2.0 ** (SCALE * stretch), 2.0 ** (-SCALE * stretch)
    stretching = _product(_rotation(direction) * jnp.stack([along, across]), _rotation(-direction))
    matrix = 2.0 ** (SCALE * scale) * _product(stretching, _rotation(-turn))
    moved = resample(image, matrix, SHIFT * jnp.stack([right * width, down * height]))
    return jnp.where(jnp.any(parameters[2:] != 0), moved, image)


def resample(
    image: Float[Array, "height width channels"], matrix: Float[Array, "2 2"], shift: Float[Array, " 2"]
) -> Float[Array, "height width channels"]:
    """Applies an affine map to an image: the value at `c + v` moves to `c + matrix v + shift`; c is the centre.

    The image continues beyond its border as its reflection, without repeating the outermost pixels. Values between
    pixels are interpolated by Keys' six-point cubic convolution (1981, IEEE Trans. ASSP 29, 1153) along rows and along
    columns. This interpolation is of fourth order and exact for cubic polynomials. Where the map shrinks, the kernel is
    widened by as much, against aliasing, separately along rows and columns. EDM instead interpolates linearly on a grid
    twice as fine, made with a wavelet filter (sym6); the finest detail differs a little.

    The weights of all pixels, most of which are 0, are multiplied as matrices: accelerators multiply fast and gather
    slowly. This takes about `2 (height width)^2 channels` operations, and memory for
    `height width (2 width + channels width)` numbers: 7 MB for a 64x64 image. Much larger images are too expensive.

    Args:
      image: any values.
      matrix: an invertible matrix, in the order (x, y) with y downwards.
      shift: in pixels, in the same order.
    """
    height, width, _ = image.shape
    (a, b), (c, d) = matrix
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    x = jnp.arange(width) - centre_x - shift[0]
    y = (jnp.arange(height) - centre_y - shift[1])[:, None]
    source_x = inverse[0, 0] * x + inverse[0, 1] * y + centre_x
    source_y = inverse[1, 0] * x + inverse[1, 1] * y + centre_y
    # The distance, in the source, between neighbouring pixels of the result, along either axis of the source.
    spread_x, spread_y = jnp.maximum(1.0, jnp.sqrt(jnp.sum(inverse**2, axis=1)))
    rows = _weights(source_y, height, spread_y)
    columns = _weights(source_x, width, spread_x)
    # By default accelerators would round the pixels to fewer bits.
    gathered = jnp.einsum("yxh,hwc->yxwc", rows, image, precision="highest")
    return jnp.einsum("yxw,yxwc->yxc", columns, gathered, precision="highest").astype(image.dtype)


def _weights(
    position: Float[Array, "height width"], size: int, spread: Float[Array, ""]
) -> Float[Array, "height width size"]:
    """The weight of each of the `size` pixels along an axis at `position`, with reflections; they sum to 1."""
    period = 2 * (size - 1)
    folded = (size - 1) - jnp.abs(jnp.mod(position, period) - (size - 1))
    pixel = jnp.arange(size)
    weights = _kernel((folded[..., None] - pixel) / spread)
    # The first and the last pixel are their own reflections.
    weights += jnp.where(pixel > 0, _kernel((folded[..., None] + pixel) / spread), 0.0)
    weights += jnp.where(pixel < size - 1, _kernel((folded[..., None] - (period - pixel)) / spread), 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _kernel(distance: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keys' fourth-order kernel, factored so that it is exactly 1 at 0 and exactly 0 at all other integers."""
    s = jnp.abs(distance)
    near = (1 - s) * (1 + s - 4 / 3 * s**2)
    middle = (s - 1) * (s - 2) * (15 - 7 * s) / 12
    far = (s - 2) * (s - 3) ** 2 / 12
    return jnp.where(s < 1, near, jnp.where(s < 2, middle, jnp.where(s < 3, far, 0.0)))


def _product(left: Float[Array, "2 2"], right: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    # With the default precision of accelerators, positions would be off by a tenth of a pixel.
    return jnp.matmul(left, right, precision="highest")


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
