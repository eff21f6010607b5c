"""Metadata: pictures that say where they come from, in text chunks of their PNG files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL.PngImagePlugin import PngInfo, putchunk

from jaxdiff.version import __version__

KEYWORD = "jaxdiff"
"""The keyword of the text that holds the origin of a picture as JSON."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_SIGNATURE) + 25  # the chunk IHDR has 13 bytes of data, and 12 bytes around them


def is_png(contents: bytes) -> bool:
    """Whether the contents of a file are a PNG picture, animated or not."""
    return contents.startswith(_SIGNATURE)


def with_origin(files: Mapping[str, bytes], origin: Mapping[str, Any]) -> dict[str, bytes]:
    """Files whose PNG pictures say where they come from. The pixels, and files of other kinds, are left as they are.

    A picture gets two texts (PNG specification, third edition, section 11.3.3.4: UTF-8 in an iTXt chunk): `Software`,
    the name and the version of jaxdiff; and `jaxdiff`, the origin as a JSON object, with the entry `version`. There is
    no time in them: the same pixels of the same origin are the same bytes. Reading back:

        json.loads(PIL.Image.open("samples.png").text["jaxdiff"])

    Args:
      files: the contents by name, as `show` returns them.
      origin: names and JSON values. Texts may hold any characters.

    Raises:
      TypeError: a value is no JSON value.
    """
    origin = {**origin, "version": __version__}
    chunks = PngInfo()
    for keyword, text in (("Software", f"jaxdiff {__version__}"), (KEYWORD, json.dumps(origin, ensure_ascii=False))):
        # An argument of a command may hold bytes that are no UTF-8, which Python keeps as lone surrogates. Inside JSON
        # the escape \udcXX stands for the same character.
        chunks.add_itxt(keyword, text.encode("utf-8", "backslashreplace"))
    return {name: _with(contents, chunks) if is_png(contents) else contents for name, contents in files.items()}


def _with(png: bytes, chunks: PngInfo) -> bytes:
    """A PNG file with more chunks right after its header, before any pixels."""
    out = io.BytesIO()
    out.write(png[:_HEADER])
    for kind, data, _ in chunks.chunks:
        putchunk(out, kind, data)
    out.write(png[_HEADER:])
    return out.getvalue()
