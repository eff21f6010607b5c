"""Every mistake on a command line is one line on standard error and status 2; a valid line gives the values it names."""

import dataclasses
import os
import pathlib
import shlex
import sys
from typing import Literal

import pytest
import tyro

from jaxdiff import presets
from jaxdiff.cli import command_line
from jaxdiff.cli.train import Arguments


@dataclasses.dataclass(frozen=True)
class UNet:
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class MLP:
    depth: int = 3


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int = 100
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "constant"] | None = None
    resume: bool = True
    max_grad_norm: float | None = None
    image_size: tuple[int, int] = (8, 8)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps};\n    allowed are positive integers")
        if self.max_grad_norm is not None and not isinstance(self.max_grad_norm, float):
            raise AssertionError("a value of the wrong type reached the settings")
        if self.learning_rate != self.learning_rate:
            raise TypeError("learning_rate = nan; allowed are numbers")


@dataclasses.dataclass(frozen=True)
class Settings:
    """A small training configuration."""

    run_dir: pathlib.Path
    network: UNet | MLP = UNet()
    train: Train = Train()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed}; allowed are integers of at least 0")


# The line, and the words that the error names.
MALFORMED = [
    ("", ["missing --run-dir PATH"]),
    ("--train.stps 5", ["'--train.stps'", "did you mean '--train.steps'?"]),
    ("--train.stps=5", ["'--train.stps'", "did you mean '--train.steps'?"]),
    ("--train.learning_rte 1", ["'--train.learning_rte'", "did you mean '--train.learning-rate'?"]),
    ("--steps 5", ["'--steps'", "did you mean '--train.steps'?"]),
    ("-seed 5", ["'-seed'", "did you mean '--seed'?"]),
    ("--qqqqqqqq 2", ["'--qqqqqqqq'", "train.py --help"]),
    ("-q", ["'-q'"]),
    ("--network.depth 2", ["'--network.depth'"]),
    ("--train.steps 0 --train.sedule x", ["'--train.sedule'", "did you mean '--train.schedule'?"]),
    ("extra", ["'extra'"]),
    ("-- 3", ["'3'"]),
    ("network:mlp", ["'network:mlp'"]),
    ("--train.steps abc", ["--train.steps", "INT", "'abc'"]),
    ("--train.steps=", ["--train.steps", "INT", "''"]),
    ("--train.steps --seed 4", ["--train.steps", "nothing"]),
    ("--seed 1 --seed x", ["--seed", "'x'"]),
    ("--train.learning_rate fast", ["--train.learning-rate", "FLOAT", "'fast'"]),
    ("--train.max-grad-norm abc", ["--train.max-grad-norm", "None", "FLOAT", "'abc'"]),
    ("--train.optimizer adm", ["--train.optimizer", "adam,adamw,sgd", "'adm'", "did you mean 'adam'?"]),
    ("--train.schedule cosin", ["--train.schedule", "'cosin'", "did you mean 'cosine'?"]),
    ("--train.image-size 8", ["--train.image-size", "2 values", "'8'"]),
    ("--train.image-size 8 b", ["--train.image-size", "INT INT", "'8 b'"]),
    ("--network.multipliers 1 two", ["--network.multipliers", "INT", "'1 two'"]),
    ("--train.resume no", ["'no'", "--train.resume", "--train.no-resume"]),
    ("--train.resume=no", ["'no'", "--train.resume", "--train.no-resume"]),
    ("--train.steps 0", ["train: steps = 0; allowed are positive integers"]),
    ("--train.learning-rate nan", ["learning_rate = nan"]),
    ("--seed -1", ["error: seed = -1; allowed are integers of at least 0"]),
]


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """The printed text, which must be one line on standard error and nothing else."""
    out, err = captured.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "tyro" not in err
    return lines[0]


@pytest.mark.parametrize(("line", "named"), MALFORMED, ids=[line or "nothing" for line, _ in MALFORMED])
def test_a_malformed_line_is_one_line_and_status_2(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.parse(Settings, ["--run-dir", "x", *shlex.split(line)] if line else [], prog="train.py")
    assert stop.value.code == 2
    message = one_line(capsys)
    for words in named:
        assert words in message
    assert len(recwarn) == 0


def test_long_values_are_shown_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """tyro breaks words at the terminal's width; a path or a number must not be broken."""
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        command_line.parse(Settings, ["--run-dir", "x", "--train.steps", "x" * 300])
    assert "x" * 300 in one_line(capsys)
    with pytest.raises(SystemExit):
        command_line.parse(Settings, ["--run-dir", "x", "--seed", "-" + "7" * 200])
    assert "7" * 200 in one_line(capsys)
    assert os.environ["COLUMNS"] == "40"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("", {}),
        ("--network.multipliers 1 2 4", {"network": UNet(multipliers=(1, 2, 4))}),
        (
            "--train.learning_rate=-inf --train.no-resume --train.max-grad-norm 0.5 --train.schedule cosine --seed=3",
            {
                "train": Train(learning_rate=-float("inf"), resume=False, max_grad_norm=0.5, schedule="cosine"),
                "seed": 3,
            },
        ),
        ("--train.image-size 4 6", {"train": Train(image_size=(4, 6))}),
    ],
)
def test_a_valid_line_gives_the_values_it_names(
    line: str, changed: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = command_line.parse(Settings, ["--run-dir", "x", *shlex.split(line)])
    assert parsed == dataclasses.replace(Settings(pathlib.Path("x")), **changed)
    assert capsys.readouterr() == ("", "")


def sample(run: tyro.conf.Positional[pathlib.Path], count: int, label: int | None = None) -> str:
    """Draws samples from a run.

    Args:
      run: the run directory.
      count: the number of samples.
    """
    if count < 1:
        raise ValueError(f"count = {count};\n\n  allowed are positive integers")
    return f"{count} of {run} as {label}"


def test_a_function_is_called_with_the_parsed_values(capsys: pytest.CaptureFixture[str]) -> None:
    expected = f"3 of {pathlib.Path('runs/x')} as -2"
    assert command_line.run(sample, ["runs/x", "--count", "3", "--label", "-2"]) == expected
    assert command_line.parse(sample, ["runs/x", "--count", "3", "--label=-2"]) == expected
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["--help"], prog="sample.py")
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "Draws samples from a run." in out
    assert "the number of samples." in out


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", ["missing", "PATH", "--count INT"]),
        ("runs/x --cont 3", ["'--cont'", "did you mean '--count'?"]),
        ("runs/x runs/y --count 3", ["'runs/y'"]),
        ("runs/x --count 0", ["error: count = 0; allowed are positive integers"]),
    ],
)
def test_a_mistake_in_the_arguments_of_a_function_is_one_line(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, shlex.split(line), prog="sample.py")
    assert stop.value.code == 2
    message = one_line(capsys)
    for words in named:
        assert words in message


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (TypeError(), 2, "TypeError"),
        (ImportError("the package is not installed"), 2, "the package is not installed"),
        (FileNotFoundError(2, "No such file or directory", "absent"), 2, "No such file or directory: 'absent'"),
        (OSError("the disk is full"), 2, "the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_an_error_that_the_caller_can_mend_is_one_line(
    error: BaseException, status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, [])
    assert stop.value.code == status
    assert one_line(capsys) == f"error: {expected}"


def test_a_defect_keeps_its_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        command_line.run(main, [])


def test_a_variable_shows_the_traceback_of_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXDIFF_TRACEBACK", "1")
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["runs/x", "--count", "0"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in sample" in err
    assert err.splitlines()[-1] == "error: count = 0; allowed are positive integers"


def test_a_function_prints_to_both_streams(capsys: pytest.CaptureFixture[str]) -> None:
    def main(count: int = 1) -> None:
        print("progress", file=sys.stderr)
        print("result")

    command_line.run(main, [])
    assert capsys.readouterr() == ("result\n", "progress\n")


def parse_preset(line: str) -> tuple[Arguments, str]:
    with command_line.reporting_errors():
        return command_line.parse_preset(Arguments, shlex.split(line), prog="train.py")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", ["missing PRESET", "digits, mnist, toy2d", "the path of a preset file"]),
        ("--train.seed 3 toy2d", ["missing PRESET before '--train.seed'", "digits, mnist, toy2d"]),
        ("Digit", ["preset = 'Digit'", "digits, mnist, toy2d", "the path of a preset file", "did you mean 'digits'?"]),
        ("toy2d digits", ["'digits'"]),
        ("toy2d --network.channels 3", ["'--network.channels'"]),
        ("toy2d --run-dri x", ["'--run-dri'", "did you mean '--run-dir'?"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_beside_a_preset_is_one_line(line: str, named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_preset(line)
    assert stop.value.code == 2
    message = one_line(capsys)
    for words in named:
        assert words in message


def test_flags_replace_values_of_a_preset_in_its_own_types(tmp_path: pathlib.Path) -> None:
    config = presets.open_preset("toy2d").config
    given, name = parse_preset("toy2d --network.width 5 --train.steps 7 --run-dir runs/x")
    assert name == "toy2d"
    assert given.run_dir == pathlib.Path("runs/x")
    assert given.network == config.network.clone(width=5)
    assert given.train == dataclasses.replace(config.train, steps=7)
    assert (given.data, given.diffusion, given.sample) == (config.data, config.diffusion, config.sample)
    source = pathlib.Path(presets.__file__).with_name("toy2d.py")
    copy = tmp_path / "mine.py"
    copy.write_text(source.read_text())
    assert parse_preset(f"{copy} --network.width 5 --train.steps 7 --run-dir runs/x") == (given, "mine")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("-h", [*presets.NAMES, "handwritten digits", "Points in the plane"]),
        ("toy2d --help", ["Points in the plane", "--train.steps", "default: 4000", "--network.width"]),
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
