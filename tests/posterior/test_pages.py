"""The programs of docs/editing.md run, one after the other, as a reader types them."""

import pathlib
import re

import numpy as np

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "editing.md"


def test_the_page_on_editing_runs():
    names = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    means = []
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
        if "edited = " in block:
            means.append(float(np.mean(names["edited"])))
    # From a mean of -1 towards one of 1: each of the four edits goes at least half of the way.
    assert len(means) == 4
    assert (np.array(means) > 0).all()
    assert (np.array(means) < 1.3).all()
