"""JPEG compression: the decoded picture of a file is seen."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.posterior.operators.operator import check_picture

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
# JFIF: Y, Cb and Cr of R, G and B, without the offsets of 128; and the way back.
YCBCR = np.asarray(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float64
)
RGB = np.asarray([[1, 0, 1.402], [1, -0.34414, -0.71414], [1, 1.772, 0]], np.float64)


def _cosines() -> Int[np.ndarray, "8 8"]:
    """The cosine transform of T.81, section A.3.3, times `sqrt(8)`, in units of 2^-13.

    The factorisation of Loeffler, Ligtenberg & Moschytz 1989 has 12 factors. libjpeg rounds each factor to 13 bits.
    These integers have the same roundings.
    """
    c = np.sqrt(2) * np.cos(np.pi * np.arange(8) / 16)

    def bits(value: float) -> int:
        return round(2**13 * value)

    even = np.asarray([
        [2**13, 2**13, 2**13, 2**13],
        [bits(c[6]) + bits(c[2] - c[6]), bits(c[6]), -bits(c[6]), -bits(c[6]) - bits(c[2] - c[6])],
        [2**13, -(2**13), -(2**13), 2**13],
        [bits(c[6]), bits(c[6]) - bits(c[2] + c[6]), bits(c[2] + c[6]) - bits(c[6]), -bits(c[6])],
    ])  # fmt: skip
    # Rows 7, 5, 3 and 1, of the differences of the inner pixels to the outer ones.
    turn = bits(c[3])
    first, second = -bits(c[3] - c[7]), -bits(c[1] + c[3])
    third, fourth = -bits(c[3] + c[5]), -bits(c[3] - c[5])
    own = (c[3] + c[5] - c[1] - c[7], c[1] + c[3] - c[5] + c[7], c[1] + c[3] + c[5] - c[7], c[1] + c[3] - c[5] - c[7])
    odd = np.full((4, 4), turn) + np.diag([bits(value) for value in own])
    odd[[0, 0, 3, 3], [0, 3, 0, 3]] += first
    odd[[1, 1, 2, 2], [1, 2, 1, 2]] += second
    odd[[0, 0, 2, 2], [0, 2, 0, 2]] += third
    odd[[1, 1, 3, 3], [1, 3, 1, 3]] += fourth
    table = np.zeros((8, 8), np.int32)
    table[::2] = np.concatenate([even, even[:, ::-1]], axis=1)
    table[[7, 5, 3, 1]] = np.concatenate([odd[:, ::-1], -odd], axis=1)
    return table


COSINES = _cosines()


@trees.register
@dataclasses.dataclass(frozen=True)
class Jpeg:
    """JPEG compression and decompression. `jpeg` makes it."""

    quality: Int[Array, "*batch"]
    subsampled: bool = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        """The picture that a decoder makes of the file of `x`."""
        check_picture(x)
        require(x.shape[-1] in (1, 3), "x.shape", x.shape, "[batch, height, width, 1] and [batch, height, width, 3]")
        quality = jnp.broadcast_to(self.quality, len(x))
        pixels = jnp.clip((x + 1) * 127.5, 0, 255)
        pixels = _through(pixels, jnp.round(pixels))
        decoded = jax.vmap(partial(compress, subsampled=self.subsampled))(pixels, quality)
        return decoded / 127.5 - 1

    def pseudo_inverse(self, y: Float[Array, "batch h w c"], damping: Any = 0.0) -> Float[Array, "batch h w c"]:
        """The decoded picture itself, over `1 + damping`. (Its own file may differ, where pixels were clipped.)"""
        return trees.lincomb((1 / (1 + damping),), (y,))


def jpeg(quality: Any, *, subsampled: bool = True) -> Jpeg:
    """JPEG compression, of pictures in [-1, 1] with one channel or three. It is not linear.

    An observation is the decoded picture, in [-1, 1], as it is read from a file. All losses are those of ITU-T T.81
    (baseline) and JFIF: the rounding of the cosine coefficients, of the pixels to bytes, and the colours at half the
    resolution. libjpeg stores the means over four pixels of colours, and interpolates them when it decodes. The code of
    Kawar et al. 2022 (arXiv 2209.11888) keeps one pixel of four, and repeats it; this operator does as libjpeg, since
    that is how the files of most cameras and programs are made and read. The pixels are those that libjpeg-turbo gives,
    without exception. Sides that are no multiples of 8, or of 16, are continued by their last pixels.

    The derivative of a rounding is 0 everywhere. Here it counts as 1, so that gradients pass.

    Args:
      quality: from 1 to 100, as libjpeg counts it; a number, or `[batch]`. It is a leaf.
      subsampled: whether colours are stored at half the resolution (4:2:0), as in most files. Static.

    Raises:
      ValueError: `quality` is not from 1 to 100.
    """
    good = trees.traced(quality) or np.all((np.asarray(quality) >= 1) & (np.asarray(quality) <= 100))
    require(good, "quality", quality, "integers from 1 to 100")
    return Jpeg(jnp.asarray(quality, jnp.int32), subsampled)


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
    luminance, chrominance = (scaled(table, quality) for table in (LUMINANCE, CHROMINANCE))
    if channels == 1:
        return _coded(_padded(pixels[..., 0], 8, 8), luminance)[:height, :width, None]
    y, cb, cr = _mixed(YCBCR, jnp.moveaxis(pixels, -1, 0), (2**15, 2**15 - 1, 2**15 - 1))
    side = 16 if subsampled else 8  # of the units that files are made of
    y = _coded(_padded(y, side, side), luminance)[:height, :width]

    def code(chroma: Float[Array, "h w"]) -> Float[Array, "h w"]:
        if not subsampled:
            return _coded(_padded(chroma + 128, side, side), chrominance)[:height, :width] - 128
        half = _coded(_padded(_halved(_padded(chroma + 128, 2, side)), 8, 8), chrominance)
        return _doubled(half[: (height + 1) // 2, : (width + 1) // 2])[:height, :width] - 128

    rgb = _mixed(RGB, jnp.stack([y, code(cb), code(cr)]), (2**15,) * 3)
    return jnp.clip(jnp.moveaxis(rgb, 0, -1), 0, 255)


def scaled(table: tuple[tuple[int, ...], ...], quality: int | Int[Array, ""]) -> Float[Array, "8 8"]:
    """The table of quantisation steps at a quality, as libjpeg scales it."""
    quality = jnp.asarray(quality, jnp.int32)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return jnp.clip((jnp.asarray(table) * percent + 50) // 100, 1, 255).astype(jnp.float32)


def _mixed(
    matrix: Float[np.ndarray, "3 3"], planes: Float[Array, "3 h w"], half: tuple[int, ...]
) -> Float[Array, "3 h w"]:
    """The product with a matrix of 16 bits after the point, to which `half` is added before the bits are cut."""
    exact = jnp.einsum("ij,jhw->ihw", jnp.asarray(np.round(matrix * 2**16), jnp.int32), planes.astype(jnp.int32))
    exact = (exact + jnp.asarray(half)[:, None, None]) >> 16
    return _through(jnp.einsum("ij,jhw->ihw", jnp.asarray(matrix, planes.dtype), planes), exact)


def _coded(plane: Float[Array, "h w"], table: Float[Array, "8 8"]) -> Float[Array, "h w"]:
    """A plane whose cosine transforms, over blocks of 8x8 pixels, are rounded to multiples of the table.

    Both transforms are separable, and round twice: to a fourth of a unit after the first side, and to a whole one.
    """
    height, width = plane.shape
    blocks = plane.astype(jnp.int32).reshape(height // 8, 8, width // 8, 8) - 128
    cosines, steps = jnp.asarray(COSINES, jnp.int32), table.astype(jnp.int32)[None, :, None, :]
    values = _cut(jnp.einsum("jx,aybx->aybj", cosines, blocks), 11)
    values = _cut(jnp.einsum("iy,aybj->aibj", cosines, values), 15)
    # libjpeg rounds halves away from zero, and they are frequent. The transform has 8 times the orthonormal scale.
    values = jnp.sign(values) * ((jnp.abs(values) + 4 * steps) // (8 * steps)) * steps
    blocks = _cut(jnp.einsum("iy,aibj->aybj", cosines, values), 11)
    blocks = _cut(jnp.einsum("jx,aybj->aybx", cosines, blocks), 18)
    return jnp.clip(_through(plane, (blocks + 128).reshape(height, width)), 0, 255)


def _cut(x: Int[Array, "*shape"], bits: int) -> Int[Array, "*shape"]:
    """The numbers without their last bits, rounded."""
    return (x + 2 ** (bits - 1)) >> bits


def _padded(plane: Float[Array, "h w"], rows: int, columns: int) -> Float[Array, "h w"]:
    """The plane with its last row and column repeated until `rows` and `columns` divide its sides."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % rows), (0, -width % columns)), mode="edge")


def _halved(plane: Float[Array, "h w"]) -> Float[Array, "h/2 w/2"]:
    """The means over squares of four pixels, rounded down and up in turn at halves, as libjpeg does."""
    height, width = plane.shape
    total = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    return _through(total / 4, jnp.floor((total + 1 + jnp.arange(width // 2) % 2) / 4))


def _doubled(plane: Float[Array, "h w"]) -> Float[Array, "2h 2w"]:
    """The plane at twice its resolution: 3/4 of the nearest pixel and 1/4 of the next, along both axes."""
    height, width = plane.shape
    rows = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
    rows = jnp.stack([3 * plane + rows[:-2], 3 * plane + rows[2:]], axis=1).reshape(2 * height, width)
    columns = jnp.pad(rows, ((0, 0), (1, 1)), mode="edge")
    # Halves are rounded up and down in turn, as libjpeg does.
    both = jnp.stack([3 * rows + columns[:, :-2] + 8, 3 * rows + columns[:, 2:] + 7], axis=2)
    return _through(both / 16, jnp.floor(both / 16)).reshape(2 * height, 2 * width)


def _through(x: Float[Array, "*shape"], rounded: Array) -> Float[Array, "*shape"]:
    """The value `rounded` with the derivative of `x`."""
    return x + jax.lax.stop_gradient(rounded.astype(x.dtype) - x)
