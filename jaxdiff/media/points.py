"""Point sets: rendered pictures, and files for viewers of meshes (PLY) and of molecules (XYZ)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from jaxdiff.checks import integer, require
from jaxdiff.media.elements import COLOURS as ELEMENT_COLOURS
from jaxdiff.media.elements import RADII
from jaxdiff.media.lettering import block
from jaxdiff.media.pictures import columns_for, grid, legend
from jaxdiff.media.pixels import NOT_FINITE, colour_of

MOST = 4096
"""The largest number of points of a set that a picture shows: the first."""
_PAGE = 246
_FINER = 3  # discs are drawn on a picture that is finer by this factor, so that their edges are smooth
_MARGIN = 8


def render(
    points: ArrayLike,
    mask: ArrayLike | None = None,
    kinds: ArrayLike | None = None,
    names: Sequence[str] = (),
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    size: int = 192,
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of point sets: one cell for each set, points as discs, nearer discs in front of farther, paler ones.

    The projection is orthographic, and each set is as large as its cell allows. Sets whose `names` are chemical
    elements are seen along their thinnest direction, tilted a little; atoms have the covalent radii and the usual
    colours of their elements. Other sets are seen from one fixed place, right of the front and above: x runs right, y
    up, and z towards the viewer.

    Args:
      points: `[n, k, 3]`. Points that are NaN or infinite are left out and counted in magenta.
      mask: `[n, k]`, true for points that exist. None for all.
      kinds: `[n, k]` integers that choose the colours; -1 for unknown. None draws all points in one colour.
      names: names of the kinds, for the strip of colours below the sheet.
      captions: n captions.
      columns: cells in a row; None for a sheet that is about square.
      size: side of a cell in pixels.

    Raises:
      ValueError: `points`, `mask` or `kinds` has another shape, or `size` is below 32, or an argument is wrong as in
        `pictures.grid`.
    """
    sets, marks, colours = _arguments(points, mask, kinds)
    require(len(sets) > 0, "points.shape", sets.shape, "[n, k, 3] with n of at least 1")
    integer("size", size, least=32)
    atoms = are_elements(names)
    cells = [_cell(*one, names if atoms else (), size) for one in zip(sets, marks, colours, strict=True)]
    columns = columns_for(len(cells), size, size) if columns is None else columns
    sheet = grid(np.stack(cells), columns, captions)
    used = set(colours[marks].tolist()) if kinds is not None and names else set()
    named = sorted(used & set(range(len(names)))) + [-1] * (-1 in used)
    texts = [names[kind] if kind >= 0 else "unknown" for kind in named]
    return legend(sheet, texts, [_colour(kind, names if atoms else ()) for kind in named])


def ply_bytes(
    points: ArrayLike, mask: ArrayLike | None = None, kinds: ArrayLike | None = None, names: Sequence[str] = ()
) -> bytes:
    """The bytes of a PLY file (text) of one point set: x, y, z in float32, and a colour for each point.

    Args:
      points: `[k, 3]`. Points that float32 cannot hold, NaN and infinities among them, are left out; a comment in the
        file counts them.
      mask: `[k]`, true for points that exist. None for all.
      kinds: `[k]` integers that choose the colours. None gives all points one colour.
      names: names of the kinds. Chemical elements have their usual colours.

    Raises:
      ValueError: `points`, `mask` or `kinds` has another shape.
    """
    sets = _arguments(
        np.asarray(points)[None],
        None if mask is None else np.asarray(mask)[None],
        None if kinds is None else np.asarray(kinds)[None],
    )
    xyz, marks, colours = (one[0] for one in sets)
    with np.errstate(over="ignore"):
        places = xyz.astype(np.float32)
    shown = marks & np.isfinite(places).all(axis=-1)
    header = ["ply", "format ascii 1.0"]
    if lost := int(marks.sum() - shown.sum()):
        header.append(f"comment {lost} points are not finite and left out")
    header += [f"element vertex {shown.sum()}", *(f"property float {axis}" for axis in "xyz")]
    header += [*(f"property uchar {channel}" for channel in ("red", "green", "blue")), "end_header"]
    palette = {kind: _colour(kind, names if are_elements(names) else ()) for kind in set(colours.tolist())}
    rows = (
        "{:.9g} {:.9g} {:.9g} {} {} {}".format(*place, *palette[kind])
        for place, kind in zip(places[shown].tolist(), colours[shown].tolist(), strict=True)
    )
    return "\n".join([*header, *rows, ""]).encode("ascii")


def xyz_bytes(
    points: ArrayLike,
    kinds: ArrayLike,
    names: Sequence[str],
    mask: ArrayLike | None = None,
    captions: Sequence[str] | None = None,
) -> bytes:
    """The bytes of an XYZ file of molecules, one after another: the number of atoms, a caption, and a line an atom.

    An atom's line is its element and x, y, z in the units of `points` (viewers expect angstrom).

    Args:
      points: `[n, k, 3]`. Atoms that are NaN or infinite are left out, and the caption counts them.
      kinds: `[n, k]` integers, the places in `names`. An atom of an unknown kind has the name X.
      names: the names of the elements.
      mask: `[n, k]`, true for atoms that exist. None for all.
      captions: n captions.

    Raises:
      ValueError: `points`, `mask` or `kinds` has another shape, or the number of captions is wrong.
    """
    sets, marks, species = _arguments(points, mask, kinds)
    texts = [""] * len(sets) if captions is None else [" ".join(str(text).split()) for text in captions]
    require(len(texts) == len(sets), "len(captions)", len(texts), f"{len(sets)}, or None")
    words = ["_".join(name.split()) or "X" for name in names]
    lines = []
    for xyz, marked, kind, text in zip(sets, marks, species, texts, strict=True):
        shown = marked & np.isfinite(xyz).all(axis=-1)
        lost = int(marked.sum() - shown.sum())
        lines += [str(shown.sum()), text + f" ({lost} atoms are not finite and left out)" * (lost > 0)]
        for place, index in zip(xyz[shown].tolist(), kind[shown].tolist(), strict=True):
            word = words[index] if 0 <= index < len(words) else "X"
            lines.append(f"{word:<2} " + " ".join(f"{value:>14.8g}" for value in place))
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def are_elements(names: Sequence[str]) -> bool:
    """Whether all names are symbols of the chemical elements up to xenon, and there is at least one."""
    return len(names) > 0 and all(name in RADII for name in names)


def to_mask(mask: ArrayLike) -> Bool[np.ndarray, "*any"]:
    """A mask as booleans. Of numbers, those above one half are true; NaN is false."""
    array = np.asarray(mask)
    return array if array.dtype == bool else array > 0.5


def kinds_of(features: NDArray[np.generic]) -> Int[np.ndarray, "*any"]:
    """The kinds of one-hot features `[..., kinds]`: the largest feature, -1 where a feature is NaN or infinite."""
    numbers = np.asarray(features, np.float64)
    return np.where(np.isfinite(numbers).all(axis=-1), np.argmax(np.nan_to_num(numbers), axis=-1), -1)


def _arguments(
    points: ArrayLike, mask: ArrayLike | None, kinds: ArrayLike | None
) -> tuple[Float[np.ndarray, "n k 3"], Bool[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    sets = np.asarray(points, np.float64)
    require(sets.ndim == 3 and sets.shape[-1] == 3, "points.shape", sets.shape, "[n, k, 3]")
    marks = np.ones(sets.shape[:2], bool) if mask is None else to_mask(mask)
    species = np.zeros(sets.shape[:2], int) if kinds is None else np.asarray(kinds, int)
    for name, array in (("mask", marks), ("kinds", species)):
        require(array.shape == sets.shape[:2], f"{name}.shape", array.shape, f"{sets.shape[:2]}, or None")
    return sets, marks, species


def _colour(kind: int, elements: Sequence[str]) -> tuple[int, int, int]:
    if 0 <= kind < len(elements):
        return ELEMENT_COLOURS.get(elements[kind], (190, 120, 160))
    return colour_of(kind) if not elements else NOT_FINITE


def _cell(
    xyz: Float[np.ndarray, "k 3"],
    marked: Bool[np.ndarray, " k"],
    kinds: Int[np.ndarray, " k"],
    elements: Sequence[str],
    size: int,
) -> UInt8[np.ndarray, "size size 3"]:
    shown = marked & np.isfinite(xyz).all(axis=1)
    lost = int(marked.sum() - shown.sum())
    places, kinds = xyz[shown][:MOST], kinds[shown][:MOST]
    side = size * _FINER
    picture = Image.new("RGB", (side, side), (_PAGE,) * 3)
    if len(places):
        radii = np.array([RADII[elements[kind]] if 0 <= kind < len(elements) else 0.5 for kind in kinds.tolist()])
        seen, sizes = _seen(places, radii if elements else None, side)
        draw = ImageDraw.Draw(picture)
        depth = seen[:, 2]
        far = (depth.max() - depth) / max(float(np.ptp(depth)), 1e-12)
        for index in np.argsort(depth, kind="stable").tolist():
            (x, y), radius = seen[index, :2].tolist(), float(sizes[index])
            base = _paler(_colour(int(kinds[index]), elements), 0.5 * float(far[index]))
            edge = tuple(round(0.55 * channel) for channel in base)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), base, edge, max(1, round(radius / 10)))
    cell = np.array(picture.resize((size, size), Image.Resampling.BOX))
    if lost:
        text = block([f"{lost} not finite"], size - 2 * _MARGIN, NOT_FINITE)
        cell[-len(text) - 2 : -2, _MARGIN:-_MARGIN] = np.minimum(text, _PAGE)
    return cell


def _seen(
    places: Float[np.ndarray, "k 3"], radii: Float[np.ndarray, " k"] | None, side: int
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, " k"]]:
    """Places in a picture (right, down, towards the viewer) and radii of the discs, in pixels."""
    # Numbers are first brought near 1: squares of the largest float64 are infinite.
    largest = max(float(np.abs(places).max()), 0.0 if radii is None else float(radii.max())) or 1.0
    near = places / largest
    near = near - (near.max(axis=0) + near.min(axis=0)) / 2
    if radii is None:
        seen = near @ _turn(-30.0, 20.0).T
        wanted = np.full(len(near), np.clip(0.35 * side / np.sqrt(len(near)), 1.6 * _FINER, 5.0 * _FINER))
    else:
        centred = near - near.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
        axes[:, 2] *= np.linalg.det(axes)  # a reflection would show the molecule's mirror image
        seen = centred @ axes @ _turn(15.0, 20.0).T
        wanted = radii / largest
    edge = 0.0 if radii is None else wanted
    low = (seen[:, :2] - np.expand_dims(edge, -1)).min(axis=0)
    high = (seen[:, :2] + np.expand_dims(edge, -1)).max(axis=0)
    room = side - 2 * (_MARGIN * _FINER + (float(wanted[0]) if radii is None else 0.0))
    zoom = room / max(float((high - low).max()), 1e-9)
    if radii is not None:
        zoom = min(zoom, side / 8 / max(float(wanted.max()), 1e-9))  # a single atom does not fill its cell
    flat = (seen[:, :2] - (low + high) / 2) * (zoom, -zoom) + side / 2
    sizes = wanted if radii is None else np.maximum(wanted * zoom, 1.6 * _FINER)
    return np.column_stack([flat, seen[:, 2]]), sizes


def _turn(around_y: float, around_x: float) -> Float[np.ndarray, "3 3"]:
    """The rotation of points by angles in degrees: first around the axis y, then around the axis x."""
    a, b = np.deg2rad((around_y, around_x))
    first = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    second = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return second @ first


def _paler(colour: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round((1 - share) * channel + share * _PAGE) for channel in colour)
    return red, green, blue
