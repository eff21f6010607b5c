"""Presets on the command line: a name or a file, and flags that replace the values of the preset."""

import dataclasses
import pathlib
import shlex
from typing import Any

import pytest

from jaxdiff import presets
from jaxdiff.cli import command_line
from jaxdiff.cli.train import Arguments
from jaxdiff.runs.config import Config


def parse_preset(line: str) -> tuple[Arguments, str]:
    with command_line.reporting_errors():
        return command_line.parse_preset(Arguments, shlex.split(line), prog="train.py")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", ["missing PRESET", "digits, mnist, toy2d", "the path of a preset file"]),
        ("--train.seed 3 toy2d", ["missing PRESET before '--train.seed'", "digits, mnist, toy2d"]),
        ("Digit", ["preset = 'Digit'", "digits, mnist, toy2d", "the path of a preset file", "did you mean 'digits'?"]),
        ("toy2d digits", ["unexpected argument 'digits'"]),
        ("toy2d --model.network.channels 3", ["'--model.network.channels'"]),
        ("toy2d --run-dri x", ["'--run-dri'", "did you mean '--run_dir'?"]),
        ("toy2d --import nosuch", ["--import nosuch: ModuleNotFoundError"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_beside_a_preset_is_one_line(line: str, named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_preset(line)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("error: ")
    for words in named:
        assert words in err


def test_flags_replace_values_of_a_preset(tmp_path: pathlib.Path) -> None:
    config: Any = presets.open_preset("toy2d").config
    given, name = parse_preset("toy2d --train.steps 7 --run-dir runs/x --model.network.width 5")
    assert name == "toy2d"
    assert given.run_dir == pathlib.Path("runs/x")
    model = dataclasses.replace(config.model, network=config.model.network.clone(width=5))
    assert command_line.narrowed(given, Config) == dataclasses.replace(
        config, model=model, train=dataclasses.replace(config.train, steps=7)
    )
    copy = tmp_path / "mine.py"
    copy.write_text(pathlib.Path(presets.__file__).with_name("toy2d.py").read_text())
    assert parse_preset(f"--import json {copy} --model.network.width 5 --train.steps 7 --run-dir runs/x") == (
        given,
        "mine",
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("-h", [*presets.NAMES, "handwritten digits", "Points in the plane"]),
        ("toy2d --help", ["Points in the plane", "--train.steps integer (4000)", "--model.network.width", "--run_dir"]),
    ],
)
def test_help_is_whole_and_has_status_0(line: str, named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_preset(line)
    assert not stop.value.code
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: train.py")
    for words in named:
        assert words in out


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("absent.py", None, "there is no such file"),
        ("recipe.txt", "", r"the names of preset files end with \.py"),
        ("fails.py", "import jaxdiff.nosuch\n", "fails with ModuleNotFoundError: No module named 'jaxdiff.nosuch'"),
        ("refused.py", "from jaxdiff.runs.config import *\nTrainConfig(steps=0)\n", "fails with ValueError: steps = 0"),
        ("broken.py", "CONFIG = (\n", "fails with SyntaxError"),
        ("empty.py", "", "holds no value CONFIG of type"),
        ("other.py", "CONFIG = {}\n", "holds no value CONFIG of type"),
    ],
)
def test_a_preset_file_that_cannot_be_used_is_refused(
    tmp_path: pathlib.Path, name: str, text: str | None, named: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"^preset {path}: {named}"):
        presets.open_preset(str(path))
