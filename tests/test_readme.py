"""The README's programs run, and do what the README says."""

import pathlib
import re

import jax
import numpy as np
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def _run(index):
    names = {}
    exec(compile(BLOCKS[index], f"README block {index}", "exec"), names)
    return names


def test_all_blocks_are_tested():
    assert len(BLOCKS) == 3


def test_the_sampler_of_an_exact_denoiser_gives_its_distribution():
    samples = np.asarray(_run(0)["samples"])
    assert samples.shape == (1000, 2)
    # The standard deviation of 2,000 independent normal numbers has a standard error of 1 / sqrt(4000) = 0.016.
    np.testing.assert_allclose(samples.std(), 1.0, atol=0.06)


@pytest.mark.parametrize(("index", "name", "shape"), [(1, "digits", (4, 8, 8, 1)), (2, "points", (256, 2))])
def test_the_sampler_of_a_module_depends_on_the_noise(index, name, shape):
    names = _run(index)
    assert names[name].shape == shape
    assert np.isfinite(names[name]).all()
    # The network is untrained, so only this much is known: other noise gives another sample.
    again = jax.jit(names["jd"].sample)(
        names["key"],
        names["denoiser"],
        names["jd"].prior_sample(jax.random.key(9), names["process"], shape),
        names["tableau"],
    )
    assert np.abs(again - names[name]).max() > 1e-3


def test_the_page_on_training_in_one_call_runs():
    """All programs of docs/fit.md, one after the other, as a reader types them."""
    page, names = README.parent / "docs" / "fit.md", {}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)):
        exec(compile(block, f"block {number} of {page.name}", "exec"), names)
    assert names["threes"].shape == (4, 8, 8, 1)
    assert [step for step, *_ in names["seen"]] == [2, 4]
