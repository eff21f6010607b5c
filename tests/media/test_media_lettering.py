"""Lettering: lines are as wide as they are said to be, and no word is lost before the end."""

import itertools

import numpy as np

from jaxdiff.media.lettering import LINES, block, length, line_height, wrap

TEXT = "the quick brown fox jumps over the lazy dog and an incomprehensibilitiesincomprehensibilities"


def test_lines_fit_and_keep_every_letter():
    for width in range(20, 400, 13):
        lines = wrap(TEXT, width, lines=99)
        assert all(length(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == TEXT.replace(" ", "")
        if width > length("incomprehensibilitiesincomprehensibilities"):
            assert " ".join(lines) == TEXT  # no word is broken
            # Each line is full: the next word would not fit.
            assert all(length(f"{a} {b.split()[0]}") > width for a, b in itertools.pairwise(lines))


def test_long_texts_are_cut():
    lines = wrap(TEXT, 60)
    assert len(lines) == LINES
    assert lines[-1].endswith("...")
    assert length(lines[-1]) <= 60
    assert wrap("short", 60) == ["short"]
    assert wrap("", 60) == []
    assert wrap("abc", 1, lines=9) == ["a", "b", "c"]


def test_spaces_and_accents():
    assert wrap(" a\n\tb\x00c ", 500) == ["a b c"]
    assert wrap("Türkiye \N{EN DASH} São", 500) == ["Turkiye - Sao"]


def test_ink_stays_in_the_block():
    picture = block(["Ägjy|", "W"], 30, (0, 0, 200))
    assert picture.shape == (2 * line_height(), 30, 3)
    blue = picture[..., 0] < 128
    assert blue[: line_height()].any()
    assert blue[line_height() :].any()
    # A line of descenders ends above the next line.
    assert not (block(["gjpqy|", ""], 60)[line_height() :] < 128).any()
    assert np.array_equal(block([], 5), np.zeros((0, 5, 3)))
