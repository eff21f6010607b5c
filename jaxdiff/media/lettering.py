"""Lettering: short texts as small pictures."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxdiff.media.pixels import INK, PAPER

LINES = 3
"""The lines of a caption. A longer caption is cut."""
_SIZE = 12
_CUT = "..."
_DASHES = str.maketrans("\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}", "-----")


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow brings along, so that a sheet is the same on every machine."""
    return ImageFont.load_default(_SIZE)


def line_height() -> int:
    """The height of a line of text in pixels."""
    return _SIZE + 3


def length(text: str) -> int:
    """The width of a line of text in pixels."""
    return int(np.ceil(_font().getlength(text)))


def wrap(text: object, width: int, lines: int = LINES) -> list[str]:
    """Lines of a text that are no wider than `width` pixels.

    A line breaks between words, and within a word that is wider than a line. A line holds at least one character.

    Args:
      text: any text. Control characters and characters that Unicode does not assign become spaces; spaces in a row
        become one. The font has the letters of ASCII: accents are left out, and other letters are boxes.
      width: pixels.
      lines: the largest number of lines. A longer text is cut and ends in three dots.
    """
    # No line holds more characters than this, so that a very long text costs no more than a long one.
    most = lines * max(width, 8)
    words = _plain(str(text)[: 4 * most]).split()
    found: list[str] = []
    line = ""
    for word in words:
        joined = f"{line} {word}" if line else word
        if length(joined) <= width:
            line = joined
            continue
        if line:
            found.append(line)
        while len(found) <= lines and (len(word) > width or length(word) > width):
            head = _head(word, width)
            found.append(word[:head])
            word = word[head:]
        line = word
        if len(found) > lines:
            break
    if line:
        found.append(line)
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and length(last + _CUT) > width:
        last = last[:-1]
    return [*found[: lines - 1], last.rstrip() + _CUT]


def block(lines: list[str], width: int, colour: tuple[int, int, int] = INK) -> UInt8[np.ndarray, "height width 3"]:
    """Lines of text on white, as a picture of `width` pixels. Parts of a glyph that lie outside are cut."""
    picture = Image.new("RGB", (width, line_height() * len(lines)), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        draw.text((0, row * line_height()), line, fill=colour, font=_font())
    return np.asarray(picture)


def _plain(text: str) -> str:
    """A text without accents and without characters that cannot be printed."""
    letters = unicodedata.normalize("NFKD", text).translate(_DASHES)
    return "".join(letter if letter.isprintable() else " " for letter in letters if not unicodedata.combining(letter))


def _head(word: str, width: int) -> int:
    """The number of characters at the beginning of a word that fit into a line; at least one."""
    # A letter is at least a pixel wide.
    fits, too_many = 1, min(len(word), width + 1)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if length(word[:middle]) <= width else (fits, middle)
    return fits
