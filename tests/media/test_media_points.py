"""Point sets: small parsers read the files, and discs lie where the projection puts them."""

import numpy as np
import pytest

from jaxdiff.media.elements import COLOURS as ELEMENT_COLOURS
from jaxdiff.media.elements import RADII
from jaxdiff.media.pictures import GAP
from jaxdiff.media.pixels import COLOURS, NOT_FINITE
from jaxdiff.media.points import _seen, _turn, kinds_of, ply_bytes, render, to_mask, xyz_bytes

WATER = np.array([[[0.0, 0.0, 0.117], [0.0, 0.757, -0.467], [0.0, -0.757, -0.467], [9.0, 9.0, 9.0]]])
THERE = np.array([[True, True, True, False]])
KINDS = np.array([[1, 0, 0, 0]])
NAMES = ("H", "O")


def read_ply(data):
    """A parser of PLY files after the format's description: the header names the columns."""
    lines = data.decode("ascii").splitlines()
    end = lines.index("end_header")
    header = [line.split() for line in lines[:end]]
    assert lines[0] == "ply"
    assert header[1] == ["format", "ascii", "1.0"]
    count = next(int(words[2]) for words in header if words[:2] == ["element", "vertex"])
    columns = [words[2] for words in header if words[0] == "property"]
    rows = np.array([[float(word) for word in line.split()] for line in lines[end + 1 :]]).reshape(-1, len(columns))
    assert len(rows) == count
    return columns, rows, [line for line in lines[:end] if line.startswith("comment")]


def read_xyz(data):
    lines, found = data.decode().splitlines(), []
    while lines:
        count, caption = int(lines[0]), lines[1]
        rows = [line.split() for line in lines[2 : 2 + count]]
        found.append((caption, [row[0] for row in rows], np.array([row[1:] for row in rows], float).reshape(-1, 3)))
        lines = lines[2 + count :]
    return found


def test_ply_files_hold_the_points_and_their_colours():
    points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32) * 1e5
    mask, kinds = np.arange(30) < 20, np.arange(30) % 12
    columns, rows, comments = read_ply(ply_bytes(points, mask, kinds))
    assert columns == ["x", "y", "z", "red", "green", "blue"]
    np.testing.assert_array_equal(rows[:, :3].astype(np.float32), points[:20])
    np.testing.assert_array_equal(rows[:, 3:], [COLOURS[kind % 10] for kind in kinds[:20]])
    assert not comments
    assert read_ply(ply_bytes(WATER[0], THERE[0], KINDS[0], NAMES))[1][0, 3:].tolist() == list(ELEMENT_COLOURS["O"])


def test_ply_files_leave_out_what_is_not_finite():
    points = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -1e300], [1, 2, 3]])
    _, rows, comments = read_ply(ply_bytes(points))
    assert rows[:, :3].tolist() == [[1, 2, 3]]
    assert comments == ["comment 3 points are not finite and left out"]
    assert len(read_ply(ply_bytes(points[:3]))[1]) == 0


def test_xyz_files_hold_molecules():
    sets = np.concatenate([WATER, WATER + 1e-3])
    sets[1, 1, 1] = np.nan
    there, kinds = np.repeat(THERE, 2, axis=0), np.array([[1, 0, 0, 0], [-1, 0, 7, 0]])
    first, second = read_xyz(xyz_bytes(sets, kinds, NAMES, there, ["wa\nter", "Eis ❄"]))
    assert first[:2] == ("wa ter", ["O", "H", "H"])
    np.testing.assert_allclose(first[2], WATER[0, :3], rtol=1e-7)
    assert second[:2] == ("Eis ❄ (1 atoms are not finite and left out)", ["X", "X"])
    assert read_xyz(xyz_bytes(WATER, KINDS, ["a b", ""]))[0][1] == ["X", "a_b", "a_b", "a_b"]


def test_one_hot_features_are_kinds():
    assert kinds_of([[0.1, 0.9], [3.0, -2.0], [np.nan, 1.0], [0.0, np.inf]]).tolist() == [1, 0, -1, -1]
    assert to_mask([0.4, 0.6, np.nan, 1.0]).tolist() == [False, True, False, True]


def test_discs_lie_where_the_projection_puts_them():
    """Two points far apart: the vector between their discs is that of the rotated points, x right and y up."""
    for axis, vector in enumerate(np.eye(3)):
        cell = render([[vector, -vector]], kinds=[[0, 1]], size=201)[GAP:, GAP:][:201, :201].astype(int)
        # The farther disc is paler, but its hue stays.
        blue, orange = cell[..., 2] - cell[..., 0] > 40, cell[..., 0] - cell[..., 2] > 40
        (y0, x0), (y1, x1) = np.argwhere(blue).mean(axis=0), np.argwhere(orange).mean(axis=0)
        rotated = _turn(-30.0, 20.0)[:, axis]
        found, expected = np.array([x0 - x1, y1 - y0]), rotated[:2]
        assert np.dot(found, expected) / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999
        np.testing.assert_allclose([x0 + x1, y0 + y1], [200, 200], atol=2)


def test_the_view_is_a_rotation_from_the_right_and_above():
    turn = _turn(-30.0, 20.0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(turn), 1.0)
    assert turn[0, 0] > 0  # x runs right,
    assert turn[1, 1] > 0  # y runs up,
    assert turn[2, 2] > 0  # and z towards the viewer.
    assert turn[2, 0] > 0  # The right side is nearer,
    assert turn[2, 1] > 0  # and so is the upper side.


def test_nearer_discs_cover_farther_ones():
    viewer = _turn(-30.0, 20.0)[2]
    for near in (0, 1):
        order = [viewer, -viewer] if near == 0 else [-viewer, viewer]
        cell = render([order], kinds=[[0, 3]], size=101)[GAP:, GAP:][:101, :101]
        assert cell[50, 50].tolist() == list(COLOURS[(0, 3)[near]])


def test_molecules_are_seen_flat_and_not_mirrored():
    rng = np.random.default_rng(4)
    for _ in range(20):
        places = rng.normal(size=(4, 3)) * rng.permutation([5.0, 2.0, 0.1])
        seen, _ = _seen(places, np.full(4, 0.7), 300)
        right, down, near = seen.T
        volume = np.linalg.det((np.stack([right, -down, near], axis=-1) - [right[0], -down[0], near[0]])[1:])
        assert np.sign(volume) == np.sign(np.linalg.det((places - places[0])[1:]))
        assert np.ptp(right) > np.ptp(down)


def test_discs_of_atoms_have_the_radii_of_their_elements():
    """Oxygen of water has 0.66 angstrom, and a disc of hydrogen reaches 0.31 beyond its centre on either side."""
    cell = render(WATER, THERE, KINDS, NAMES)[GAP:, GAP:][:192, :192].astype(int)
    oxygen = (cell[..., 0] - cell[..., 1] > 60).any(axis=1)
    drawn = (cell != 246).any(-1).any(axis=0)
    width, height = np.ptp(np.flatnonzero(drawn)) + 1, oxygen.sum()
    np.testing.assert_allclose(height / width, 1.32 / (2 * 0.757 * np.cos(np.deg2rad(15)) + 0.62), rtol=0.06)


def test_sets_fill_their_cells_and_do_not_leave_them():
    rng = np.random.default_rng(1)
    sets = rng.normal(size=(3, 40, 3)) * np.array([1e-9, 1.0, 1e300])[:, None, None]
    for options in ({}, {"kinds": rng.integers(0, 3, (3, 40)), "names": ("C", "N", "O")}):
        sheet = render(sets[:, :, :], columns=3, size=96, **options)
        for index in range(3):
            cell = sheet[GAP : GAP + 96, GAP + index * (96 + GAP) :][:, :96]
            drawn = (cell != 246).any(-1)
            border = drawn.copy()
            border[4:-4, 4:-4] = False
            assert drawn.sum() > 100
            assert not border.any()


def test_masked_points_are_not_drawn_and_lost_points_are_counted():
    points = np.random.default_rng(2).normal(size=(1, 9, 3))
    mask = np.arange(9)[None] < 6
    np.testing.assert_array_equal(render(points, mask), render(points[:, :6]))
    lost = points.copy()
    lost[0, 8] = np.inf
    np.testing.assert_array_equal(render(lost, mask), render(points, mask))
    lost[0, 0] = np.nan
    picture = render(lost, mask).astype(int)
    assert ((picture[..., 0] - picture[..., 1] > 99) & (picture[..., 2] - picture[..., 1] > 99)).sum() > 20
    empty = render(points, np.zeros((1, 9), bool))
    assert (empty[GAP:-GAP, GAP:-GAP] == 246).all()


def test_kinds_are_named_below_the_sheet():
    plain, named = render(WATER, THERE, KINDS), render(WATER, THERE, KINDS, NAMES)
    assert len(named) > len(plain)
    strip = named[len(plain) :]
    assert (strip == ELEMENT_COLOURS["O"]).all(-1).any()
    assert not (strip == NOT_FINITE).all(-1).any()
    unknown = render(WATER, THERE, KINDS - 2 * (KINDS == 1) * 1, NAMES)[len(plain) :]
    assert (unknown == NOT_FINITE).all(-1).any()
    assert not (unknown == ELEMENT_COLOURS["O"]).all(-1).any()


def test_radii_are_a_table_of_54_elements():
    assert len(RADII) == 54
    assert (RADII["H"], RADII["C"], RADII["Xe"]) == (0.31, 0.76, 1.40)
    assert set(ELEMENT_COLOURS) < set(RADII)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render(np.zeros((4, 3))), r"points.shape = \(4, 3\); allowed are \[n, k, 3\]"),
        (lambda: render(WATER, THERE[:, :2]), r"mask.shape = \(1, 2\); allowed are \(1, 4\), or None"),
        (lambda: ply_bytes(WATER[0], kinds=[0]), r"kinds.shape = \(1, 1\)"),
        (lambda: render(WATER[:0]), r"points.shape = \(0, 4, 3\); allowed are \[n, k, 3\] with n of at least 1"),
        (lambda: render(WATER, size=31), "size = 31; allowed are integers of at least 32"),
        (lambda: xyz_bytes(WATER, KINDS, NAMES, captions=[]), r"len\(captions\) = 0; allowed are 1, or None"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
