"""Every mistake on a command line is one line on standard error and status 2; good lines parse to what they say."""

import dataclasses
import os
import pathlib
import shlex
import subprocess
import sys
import textwrap
from typing import Literal

import pytest
import tyro

from jaxdiff.cli import command_line


@dataclasses.dataclass(frozen=True)
class UNet:
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


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
    clip: float | None = None
    image_size: tuple[int, int] = (8, 8)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1,\n    got {self.steps}")
        if self.clip is not None and not isinstance(self.clip, float):
            raise AssertionError("a value of the wrong type reached the configuration")
        if self.learning_rate != self.learning_rate:
            raise TypeError("learning_rate must be a number, got nan")


@dataclasses.dataclass(frozen=True)
class Config:
    """A small training configuration."""

    run_dir: pathlib.Path
    network: UNet | MLP = UNet()
    train: Train = Train()
    ema: MLP | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


PRESETS = {
    "digits": ("Digits, 8x8", Config(pathlib.Path("runs/digits"))),
    "toy2d": ("Points in the plane", Config(pathlib.Path("runs/toy2d"), network=MLP(), train=Train(steps=7))),
}

# The line, and what its one line of complaint must name.
MALFORMED = [
    ("", ["preset", "digits", "toy2d"]),
    ("digit", ["'digit'", "did you mean 'digits'?", "toy2d"]),
    ("Digits", ["'Digits'", "did you mean 'digits'?"]),
    ("cifar", ["unknown preset 'cifar'", "digits, toy2d"]),
    ("--seed 3 digits", ["preset comes before", "'--seed'", "digits, toy2d"]),
    ("digits --train.stps 5", ["'--train.stps'", "did you mean '--train.steps'?"]),
    ("digits --train.stps=5", ["'--train.stps'", "did you mean '--train.steps'?"]),
    ("digits --train.step 5 --seed 1", ["'--train.step'", "did you mean '--train.steps'?"]),
    ("digits --steps 5", ["'--steps'", "did you mean '--train.steps'?"]),
    ("digits --stps 5", ["'--stps'", "did you mean '--train.steps'?"]),
    ("digits --train-steps 5", ["'--train-steps'", "did you mean '--train.steps'?"]),
    ("digits --train.learning_rte 1", ["'--train.learning_rte'", "did you mean '--train.learning-rate'?"]),
    ("digits --Seed 5", ["'--Seed'", "did you mean '--seed'?"]),
    ("digits -seed 5", ["'-seed'", "did you mean '--seed'?"]),
    ("digits --rundir x", ["'--rundir'", "did you mean '--run-dir'?"]),
    ("digits --network.depth 2", ["'--network.depth'"]),
    ("digits --qqqqqqqq 2", ["'--qqqqqqqq'", "train.py digits --help"]),
    ("digits -q", ["'-q'"]),
    ("digits extra", ["'extra'"]),
    ("digits toy2d", ["'toy2d'"]),
    ("digits -- 3", ["'3'"]),
    ("digits network:mlp", ["'network:mlp'"]),
    ("digits --train.steps abc", ["--train.steps", "INT", "'abc'"]),
    ("digits --train.steps=abc", ["--train.steps", "INT", "'abc'"]),
    ("digits --train.steps 1.5", ["--train.steps", "INT", "'1.5'"]),
    ("digits --train.steps=", ["--train.steps", "INT", "''"]),
    ("digits --train.steps", ["--train.steps", "nothing"]),
    ("digits --train.steps --seed 4", ["--train.steps", "nothing"]),
    ("digits --seed 1 --seed x", ["--seed", "'x'"]),
    ("digits --train.learning_rate fast", ["--train.learning-rate", "FLOAT", "'fast'"]),
    ("digits --train.clip abc", ["--train.clip", "None", "FLOAT", "'abc'"]),
    ("digits --train.optimizer adm", ["--train.optimizer", "adam,adamw,sgd", "'adm'", "did you mean 'adam'?"]),
    ("digits --train.optimizer SGD", ["--train.optimizer", "'SGD'", "did you mean 'sgd'?"]),
    ("digits --train.schedule cosin", ["--train.schedule", "'cosin'", "did you mean 'cosine'?"]),
    ("digits --train.image-size 8", ["--train.image-size", "2 values", "'8'"]),
    ("digits --train.image-size 8 b", ["--train.image-size", "INT INT", "'8 b'"]),
    ("digits --network.multipliers 1 two", ["--network.multipliers", "INT", "'1 two'"]),
    ("digits --train.resume no", ["'no'", "--train.resume", "--train.no-resume"]),
    ("digits --train.resume=no", ["'no'", "--train.resume", "--train.no-resume"]),
    ("digits --train.steps 0", ["train", "steps must be at least 1, got 0"]),
    ("digits --train.steps -3", ["train", "steps must be at least 1, got -3"]),
    ("digits --network.width -1", ["network", "width must be at least 1, got -1"]),
    ("digits --seed -1", ["seed must not be negative, got -1"]),
    ("digits --train.learning-rate nan", ["learning_rate must be a number"]),
    ("toy2d --network.width 3", ["'--network.width'"]),
    ("toy2d --network.depth deep", ["--network.depth", "INT", "'deep'"]),
    ("digits --train.steps 0 --train.sedule x", ["'--train.sedule'", "did you mean '--train.schedule'?"]),
]


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """What was printed, which must be one line on standard error and nothing else."""
    out, err = captured.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    assert "tyro" not in err
    return lines[0]


@pytest.mark.parametrize(("line", "named"), MALFORMED, ids=[line or "nothing" for line, _ in MALFORMED])
def test_a_malformed_line_is_one_line_and_status_2(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.parse_preset(PRESETS, shlex.split(line), prog="train.py")
    assert stop.value.code == 2
    message = one_line(capsys)
    for words in named:
        assert words in message
    assert len(recwarn) == 0


def test_long_messages_are_not_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """tyro breaks words at the terminal's width; a path or a number must come through whole."""
    monkeypatch.setenv("COLUMNS", "40")
    value = "x" * 300
    with pytest.raises(SystemExit):
        command_line.parse_preset(PRESETS, ["digits", "--train.steps", value])
    assert value in one_line(capsys)
    with pytest.raises(SystemExit):
        command_line.parse_preset(PRESETS, ["digits", "--seed", "-" + "7" * 200])
    assert "7" * 200 in one_line(capsys)
    assert os.environ["COLUMNS"] == "40"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("digits", PRESETS["digits"][1]),
        ("toy2d", PRESETS["toy2d"][1]),
        ("toy2d --network.depth 5", dataclasses.replace(PRESETS["toy2d"][1], network=MLP(5))),
        (
            "digits --train.steps 500 --run-dir runs/x --network.multipliers 1 2 4",
            Config(pathlib.Path("runs/x"), network=UNet(multipliers=(1, 2, 4)), train=Train(steps=500)),
        ),
        (
            "digits --train.learning_rate=-inf --train.no-resume --train.clip 0.5 --train.schedule cosine --seed=3",
            Config(
                pathlib.Path("runs/digits"),
                train=Train(learning_rate=-float("inf"), resume=False, clip=0.5, schedule="cosine"),
                seed=3,
            ),
        ),
        ("digits --train.image-size 4 6", Config(pathlib.Path("runs/digits"), train=Train(image_size=(4, 6)))),
    ],
)
def test_a_good_line_parses(line: str, expected: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.parse_preset(PRESETS, shlex.split(line)) == expected
    assert capsys.readouterr() == ("", "")


def test_the_union_takes_the_type_of_the_preset() -> None:
    assert isinstance(command_line.parse_preset(PRESETS, ["toy2d"]).network, MLP)
    assert isinstance(command_line.parse_preset(PRESETS, ["digits"]).network, UNet)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--help", ["digits", "Digits, 8x8", "toy2d", "Points in the plane"]),
        ("-h", ["digits", "toy2d"]),
        ("digits --help", ["Digits, 8x8", "--train.steps", "default: 100", "--network.width", "adamw"]),
        ("toy2d -h", ["--network.depth", "default: 7"]),
    ],
)
def test_help_is_whole_and_status_0(line: str, named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.parse_preset(PRESETS, shlex.split(line), prog="train.py")
    assert not stop.value.code
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: train.py")
    for words in named:
        assert words in out


def test_no_presets_is_refused() -> None:
    with pytest.raises(ValueError, match="presets is empty"):
        command_line.parse_preset({}, ["digits"])


def sample(run: tyro.conf.Positional[pathlib.Path], count: int, label: int | None = None, out: str = "grid.png") -> str:
    """Draws samples from a run.

    Args:
        run: the run's directory.
        count: how many to draw.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1,\n\n  got {count}")
    if not run.name:
        raise TypeError
    if label == 404:
        raise ImportError("sampling with labels needs a package that is not installed")
    if label == 500:
        raise RuntimeError("a defect")
    if label == 130:
        raise KeyboardInterrupt
    if out == "":
        run.read_text()
    if out == "no number":
        raise OSError("the disk is full")
    return f"{count} of {run} as {label} in {out}"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", ["missing", "PATH", "--count INT"]),
        ("runs/x", ["missing --count INT"]),
        ("runs/x --cont 3", ["'--cont'", "did you mean '--count'?"]),
        ("runs/x runs/y --count 3", ["'runs/y'"]),
        ("runs/x --count three", ["--count", "INT", "'three'"]),
        ("runs/x --count 3 --label a", ["--label", "'a'"]),
        ("runs/x --count 0", ["count must be at least 1, got 0"]),
        ("/ --count 1", ["TypeError"]),
        ("runs/x --count 1 --label 404", ["not installed"]),
        ("absent --count 1 --out ''", ["No such file or directory: 'absent'"]),
        ("absent --count 1 --out 'no number'", ["the disk is full"]),
    ],
)
def test_a_function_s_mistakes_and_refusals_are_one_line(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, shlex.split(line), prog="sample.py")
    assert stop.value.code == 2
    message = one_line(capsys)
    for words in named:
        assert words in message


def test_a_function_is_called_with_what_was_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    expected = f"3 of {pathlib.Path('runs/x')} as -2 in grid.png"
    assert command_line.run(sample, ["runs/x", "--count", "3", "--label", "-2"]) == expected
    assert command_line.parse(sample, ["runs/x", "--count", "3", "--label=-2"]) == expected
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["--help"], prog="sample.py")
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "Draws samples from a run." in out
    assert "how many to draw." in out


def test_what_the_function_prints_is_not_withheld(capsys: pytest.CaptureFixture[str]) -> None:
    def main(count: int = 1) -> None:
        print("progress", file=sys.stderr)
        print("result")

    command_line.run(main, [])
    assert capsys.readouterr() == ("result\n", "progress\n")


def test_a_dataclass_parses_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.parse(Config, ["--run-dir", "x", "--seed", "2"]) == Config(pathlib.Path("x"), seed=2)
    with pytest.raises(SystemExit):
        command_line.parse(Config, ["--seed", "2"])
    assert "missing --run-dir PATH" in one_line(capsys)
    with pytest.raises(SystemExit):
        command_line.parse(Config, ["--run-dir", "x", "--seed", "-2"])
    assert one_line(capsys) == "error: seed must not be negative, got -2"


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["runs/x", "--count", "1", "--label", "130"])
    assert stop.value.code == 130
    one_line(capsys)


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        command_line.run(sample, ["runs/x", "--count", "1", "--label", "500"])


def test_the_traceback_is_there_for_the_asking(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXDIFF_TRACEBACK", "1")
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["runs/x", "--count", "0"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in sample" in err
    assert err.splitlines()[-1] == "error: count must be at least 1, got 0"


FRAMED = """
╭─ Value error ─────────────────────────╮
│ Error parsing --seed: no such integer │
│ ───────────────────────────────────── │
│ Argument helptext:                    │
│     --seed {1,2}|INT                  │
│     (default: 0)                      │
╰───────────────────────────────────────╯
"""

UNFRAMED = """
 Invalid choice
 ------------------------------------------
  invalid choice 'w' for argument '--seed'.
  Expected one of ('1', '2').
  ----------------------------------------
  For full helptext, run train.py --help
"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("an unheard-of\n\n   objection\nto it all", "an unheard-of objection to it all"),
        ("", "the arguments were refused"),
        (FRAMED, "--seed takes {1,2}|INT, got 'x'"),
        (UNFRAMED, "--seed takes {1,2}, got 'x'"),
        ("╭─ Odd ─╮\n│ no reason │\n╰───╯", "no reason"),
    ],
)
def test_whatever_form_the_objection_takes_it_is_one_line(
    printed: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames, their absence, and wording never seen before."""

    def refusing(*_: object, args: list[str], **__: object) -> None:
        if args == ["--help"]:
            print("--seed INT")
            raise SystemExit(0)
        print(printed, file=sys.stderr)
        raise SystemExit(2)

    monkeypatch.setattr(tyro, "cli", refusing)
    with pytest.raises(SystemExit) as stop:
        command_line.parse(Config, ["--seed", "x"])
    assert stop.value.code == 2
    assert one_line(capsys) == f"error: {expected}"


def test_a_process_ends_with_the_status(tmp_path: pathlib.Path) -> None:
    """As a script sees it: real processes, real statuses, `sys.argv`."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from jaxdiff.training import command_line

            def main(count: int) -> None:
                print(count)
                if count > 9:
                    open("absent/file", "w")

            command_line.run(main)
            """
        )
    )
    root = pathlib.Path(command_line.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def ran(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, str(script), *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        return done.returncode, done.stdout, done.stderr

    assert ran("--count", "3") == (0, "3\n", "")
    assert ran("--cuont", "3") == (2, "", "error: unknown flag '--cuont'; did you mean '--count'?\n")
    status, _, err = ran("--count", "10")
    assert status == 2
    assert err == "error: No such file or directory: 'absent/file'\n"
