"""The README's programs run, and do what the README says."""

import pathlib
import re

import jax
import numpy as np
import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def _run(index, steps="1000"):
    """Runs a block with another number in the place of its 1000 steps."""
    names = {"__name__": "readme"}
    exec(compile(BLOCKS[index].replace("1000", steps), f"README block {index}", "exec"), names)
    return names


def test_all_blocks_are_tested():
    assert len(BLOCKS) == 4


def test_a_function_gives_samples_of_its_distribution():
    samples = np.asarray(_run(0)["samples"])
    assert samples.shape == (1000, 2)
    # The standard deviation of 2,000 independent normal numbers has a standard error of 1 / sqrt(4000) = 0.016.
    np.testing.assert_allclose(samples.std(), 1.0, atol=0.06)


@pytest.mark.long
def test_arrays_become_a_run_that_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run(1, steps="2")
    assert names["threes"].shape == (16, 8, 8, 1)
    assert (tmp_path / "runs" / "mine" / "samples" / "final.png").exists()
    again = names["model"].sample(jax.random.key(0), 16, label=3)
    np.testing.assert_array_equal(names["threes"], again)


def test_the_sampler_of_a_module_depends_on_the_noise():
    names = _run(2)
    assert names["digits"].shape == (4, 8, 8, 1)
    assert np.isfinite(names["digits"]).all()
    # The network is untrained, so only this much is known: other noise gives another sample.
    noise = names["jd"].prior_sample(jax.random.key(9), names["process"], (4, 8, 8, 1))
    again = jax.jit(names["jd"].sample)(names["key"], names["denoiser"], noise, names["tableau"])
    assert np.abs(again - names["digits"]).max() > 1e-3


def test_a_loop_of_ones_own_lowers_the_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run(3, steps="300")
    # At first the loss is that of an output of 0, E|eps - x0|^2 = 2.25. The best possible is s pi/2 = 0.785 for s = 0.5.
    assert float(names["metrics"]["loss"]) < 1.2
    with names["jd"].Checkpoints("checkpoints") as checkpoints:
        assert checkpoints.steps() == [300]


def test_the_page_on_training_in_one_call_runs():
    """All programs of docs/fit.md, one after the other, as a reader types them."""
    page, names = README.parent / "docs" / "fit.md", {"__name__": "page"}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)):
        exec(compile(block, f"block {number} of {page.name}", "exec"), names)
    assert [step for step, *_ in names["seen"]] == [2, 4]


def test_the_japanese_readme_has_the_same_content():
    """The same code, links, names in code and figures, section by section."""
    english, japanese = (README.with_name(name).read_text() for name in ("README.md", "README.ja.md"))
    for pattern in (r"```.*?```", r"\]\((?!README)[^)]*\)", r"`[^`\n]+`", r"\d[\d.,e-]*\d|\d"):
        found, wanted = (
            [sorted(re.findall(pattern, section, flags=re.DOTALL)) for section in text.split("\n## ")]
            for text in (japanese, english)
        )
        assert found == wanted
