"""JPEG compression and decompression of pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxdiff.augmentations.degradations.degradation import Degradation
from jaxdiff.checks import fraction, integer, require

# ITU-T T.81, annex K, tables K.1 (luminance) and K.2 (chrominance).
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
# JFIF: Y, Cb and Cr of R, G and B, without the offsets of 128.
YCBCR = np.asarray(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float64
)


@dataclasses.dataclass(frozen=True)
class Jpeg(Degradation):
    """JPEG compression of a random quality. Pictures have one channel (grey) or three (red, green, blue).

    Attributes:
      quality_min: the least quality, from 1 to 100, as libjpeg counts it.
      quality_max: the greatest quality. All integers between are equally probable.
      subsampled: whether colours are stored at half the resolution (4:2:0), as most files do.
      probability: the probability that the picture is compressed at all.
    """

    quality_min: int = 30
    quality_max: int = 95
    subsampled: bool = True
    probability: float = 1.0

    def __post_init__(self) -> None:
        integer("quality_min", self.quality_min, 1, 100)
        integer("quality_max", self.quality_max, self.quality_min, 100)
        fraction("probability", self.probability)

    def check(self, shape: tuple[int, ...]) -> None:
        require(shape[-1] in (1, 3), "shape of the picture", shape, "[h, w, 1] and [h, w, 3]")

    def apply(self, key: Key[Array, ""], image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        quality = jax.random.randint(key, (), self.quality_min, self.quality_max + 1)
        pixels = jnp.clip(jnp.round((image + 1) * 127.5), 0, 255)
        return compress(pixels, quality, self.subsampled) / 127.5 - 1


def compress(
    pixels: Float[Array, "h w c"], quality: int | Int[Array, ""], subsampled: bool = True
) -> Float[Array, "h w c"]:
    """The pixels of a picture after it has been written as a JPEG file and read again.

    All losses are those of ITU-T T.81 (baseline) and JFIF, in the arithmetic of libjpeg: roundings to bytes, the scale
    of the tables, the mean over four pixels of colours and their interpolation by a triangle. The entropy code loses
    nothing, and is left out.

    Args:
      pixels: whole numbers from 0 to 255, grey or RGB.
      quality: from 1 to 100. It may be traced.
      subsampled: whether colours are stored at half the resolution (4:2:0).
    """
    height, width, channels = pixels.shape
    luminance, chrominance = (_scaled(table, quality) for table in (LUMINANCE, CHROMINANCE))
    if channels == 1:
        return _coded(_padded(pixels[..., 0], 8), luminance)[:height, :width, None]
    colours = jnp.round(jnp.einsum("ij,hwj->ihw", jnp.asarray(YCBCR, jnp.float32), pixels, precision="highest"))
    y, cb, cr = colours + jnp.asarray([0.0, 128.0, 128.0])[:, None, None]
    side = 16 if subsampled else 8  # of the units that files are made of
    y = _coded(_padded(y, side), luminance)[:height, :width]

    def code(chroma: Float[Array, "h w"]) -> Float[Array, "h w"]:
        if not subsampled:
            return _coded(_padded(chroma, side), chrominance)[:height, :width] - 128
        half = _coded(_halved(_padded(chroma, side)), chrominance)
        return _doubled(half[: (height + 1) // 2, : (width + 1) // 2])[:height, :width] - 128

    cb, cr = code(cb), code(cr)
    rgb = jnp.stack([y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb], axis=-1)
    return jnp.clip(jnp.round(rgb), 0, 255)


def _scaled(table: tuple[tuple[int, ...], ...], quality: int | Int[Array, ""]) -> Float[Array, "8 8"]:
    """The table of quantisation steps at a quality, as libjpeg scales it."""
    quality = jnp.asarray(quality, jnp.int32)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return jnp.clip((jnp.asarray(table) * percent + 50) // 100, 1, 255).astype(jnp.float32)


def _coded(plane: Float[Array, "h w"], table: Float[Array, "8 8"]) -> Float[Array, "h w"]:
    """A plane whose cosine transforms, over blocks of 8x8 pixels, are rounded to multiples of the table."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8) - 128
    # The rows are the orthonormal cosines of T.81, section A.3.3.
    k, n = np.mgrid[:8, :8]
    dct = jnp.asarray(
        np.where(k == 0, np.sqrt(1 / 8), np.sqrt(1 / 4) * np.cos(np.pi * (2 * n + 1) * k / 16)), jnp.float32
    )
    values = jnp.einsum("iy,jx,aybx->aibj", dct, dct, blocks, precision="highest")
    steps = table[None, :, None, :]
    # libjpeg rounds halves away from zero, and they are frequent.
    values = jnp.sign(values) * jnp.floor(jnp.abs(values) / steps + 0.5) * steps
    blocks = jnp.einsum("iy,jx,aibj->aybx", dct, dct, values, precision="highest")
    return jnp.clip(jnp.round(blocks + 128), 0, 255).reshape(height, width)


def _padded(plane: Float[Array, "h w"], side: int) -> Float[Array, "h w"]:
    """The plane with its last row and column repeated until `side` divides both sides."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % side), (0, -width % side)), mode="edge")


def _halved(plane: Float[Array, "h w"]) -> Float[Array, "h/2 w/2"]:
    """The means over squares of four pixels, rounded down and up in turn at halves, as libjpeg does."""
    height, width = plane.shape
    total = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    return jnp.floor((total + 1 + jnp.arange(width // 2) % 2) / 4)


def _doubled(plane: Float[Array, "h w"]) -> Float[Array, "2h 2w"]:
    """The plane at twice its resolution: 3/4 of the nearest pixel and 1/4 of the next, along both axes."""
    height, width = plane.shape
    rows = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    rows = jnp.stack([3 * plane + rows[:-2], 3 * plane + rows[2:]], axis=1).reshape(2 * height, width)
    columns = jnp.pad(rows, ((0, 0), (1, 1)), mode="edge")
    # Halves are rounded up and down in turn, as libjpeg does.
    both = jnp.stack([3 * rows + columns[:, :-2] + 8, 3 * rows + columns[:, 2:] + 7], axis=2)
    return jnp.floor(both / 16).reshape(2 * height, 2 * width)
