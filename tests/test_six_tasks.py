"""Our code on docs/six_tasks.md runs, does what the page says, and is as short as the page says."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scripts" / "benchmark"))
six_tasks = importlib.import_module("six_tasks")

OURS = six_tasks.blocks("ours")
MOST = {"sample": 3, "train": 6, "guidance": 2, "guidance_of_functions": 2, "likelihood": 2, "swap": 1, "load": 2}


def _run(tasks, names=None):
    names = {} if names is None else names
    for task in tasks:
        code = OURS[task].replace("steps=200", "steps=4").replace("num_blocks=1", "num_blocks=0, attention_levels=()")
        exec(compile(code, f"six tasks, {task}", "exec"), names)
    return names


@pytest.mark.parametrize("task", MOST)
def test_our_code_is_short(task):
    assert six_tasks.lines(OURS[task]) <= MOST[task]


def test_the_table_counts_the_lines_of_the_page():
    assert six_tasks.table() in six_tasks.PAGE.read_text()


def test_the_tasks_without_training_are_right():
    names = _run(["given", "given_functions", "sample", "likelihood"])
    points = np.asarray(names["points"])
    # The mean of 2,000 independent normal numbers has a standard error of 0.022, and their standard deviation of 0.016.
    np.testing.assert_allclose([points.mean(), points.std()], [0, 1], atol=0.08)
    exact = -0.5 * np.sum(np.square(points[:100]), axis=1) - np.log(2 * np.pi)
    np.testing.assert_allclose(names["nats"], exact, atol=0.02)

    points = np.asarray(_run(["swap"], names)["points"])
    np.testing.assert_allclose([points.mean(), points.std()], [0, 1], atol=0.08)
    # From N(0, I) towards N(1, I), guidance of scale 2 leads to N(2, I).
    points = np.asarray(_run(["guidance_of_functions"], names)["points"])
    np.testing.assert_allclose([points.mean(), points.std()], [2, 1], atol=0.08)


@pytest.mark.long
def test_a_trained_model_is_guided_and_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run(["given", "given_data", "train", "guidance"])
    trained, guided = names["model"], np.asarray(names["threes"])
    _run(["load"], names)
    np.testing.assert_array_equal(names["threes"], trained.sample(names["key"], 16, label=3))
    assert guided.shape == names["threes"].shape
    assert np.abs(guided - names["threes"]).max() > 1e-3
