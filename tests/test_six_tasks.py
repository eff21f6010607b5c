"""Our code on docs/six_tasks.md runs, does what the page says, and is as short as the page says."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scripts" / "benchmark"))
six_tasks = importlib.import_module("six_tasks")

OURS = six_tasks.blocks("ours")
MOST = {"sample": 3, "train": 6, "guidance": 2, "likelihood": 2, "swap": 1, "load": 2}


def _run(*tasks):
    names = {}
    for task in tasks:
        exec(compile(OURS[task], f"six tasks, {task}", "exec"), names)
    return names


@pytest.mark.parametrize("task", MOST)
def test_our_code_is_short(task):
    assert six_tasks.lines(OURS[task]) <= MOST[task]
    assert max(map(len, OURS[task].splitlines())) <= 120


def test_the_table_counts_the_lines_of_the_page():
    assert six_tasks.table() in six_tasks.PAGE.read_text()


def test_the_tasks_without_training_are_right():
    names = _run("given", "given_functions", "sample", "likelihood")
    # The standard deviation of 2,000 independent normal numbers has a standard error of 1 / sqrt(4000) = 0.016.
    np.testing.assert_allclose(np.std(names["points"]), 1.0, atol=0.06)
    exact = -0.5 * np.sum(np.square(names["points"][:100]), axis=1) - np.log(2 * np.pi)
    np.testing.assert_allclose(names["nats"], exact, atol=0.03)


def test_training_guidance_and_loading(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run("given", "given_data", "train", "guidance")
    trained = names["model"]
