"""Every mistake on a command line is one line on standard error and status 2; a valid line gives the values it names."""

import dataclasses
import functools
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

import pytest
from malformed import malformed
from settings_tree import RICH, Bare, Class, Conv, Crop, Deep, Diffusion, Flip, Settings, Text, Train, churn, ddim, heun

from jaxdiff.cli import command_line
from jaxdiff.components import Choice, Table, choose


@dataclasses.dataclass(frozen=True)
class Draw:
    """A run and the number of samples."""

    run: pathlib.Path = dataclasses.field(metadata={"positional": True})
    """The run directory."""
    count: int
    """The number of samples."""
    label: int | None = None
    """The class."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Nothing:
    """No arguments."""


def read(target: Any, line: str, **options: Any) -> Any:
    return command_line.parse(target, shlex.split(line), **options)


def refused(call: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """The printed text, which must be one line on standard error, with status 2."""
    with pytest.raises(SystemExit) as stop:
        call()
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert stop.value.code == 2
    return err.removeprefix("error: ").rstrip("\n")


def model(**changed: Any) -> dict[str, Any]:
    return {"model": dataclasses.replace(Diffusion(), **changed)}


def train(**changed: Any) -> dict[str, Any]:
    return {"train": Train(**changed)}


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("", {}),
        ("--seed=3 --seed 4", {"seed": 4}),
        ("--train.learning-rate inf --train.max_norm 5", train(learning_rate=float("inf"), max_norm=5.0)),
        ("--train.resume=FALSE --train.max_norm=-2e-1", train(resume=False, max_norm=-0.2)),
        ("--train.resume --train.schedule cosine", train(schedule="cosine")),
        ("--train.image_size 4 6 --train.average none", train(image_size=(4, 6), average=None)),
        ("--train.image_size None --train.average 0.1", train(image_size=None, average=0.1)),
        ("--train.overrides a.*=1 b==", train(overrides=Table({"a.*": "1", "b": "="}))),
        ("--train.overrides a=1 --train.overrides", {}),
        ("--model.network.multipliers 1 2 4", model(network=Conv(multipliers=(1, 2, 4)))),
        ("--model.network.multipliers", model(network=Conv(multipliers=()))),
        ("--model.network.kind Conv --model.network.channels 8", model(network=Conv(channels=8))),
        ("--model.network.depth 5 --model.network.kind Deep", model(network=Deep(depth=5))),
        ("--model.network.width 5 --model.network.kind Bare", model(network=Bare(5))),
        ("--model.teacher.kind Deep", model(teacher=Deep())),
        ("--model.teacher.kind Deep --model.teacher None", {}),
        ("--model.conditions.label none", model(conditions=Table())),
        ("--model.conditions none", model(conditions=Table())),
        ("--model.conditions.label.dropout 0", model(conditions=Table(label=Class(0.0)))),
        (
            "--model.conditions.a-b.length 5 --model.conditions.a_b.network.depth 9 --model.conditions.a-b.kind Text",
            model(conditions=Table(label=Class(), a_b=Text(Deep(depth=9), length=5))),
        ),
        (
            "--augmentations.1.kind Crop --augmentations.0.probability 1 --augmentations.1.size 2 3"
            " --augmentations.0.kind Flip",
            {"augmentations": (Flip(1.0), Crop((2, 3)))},
        ),
        ("--solver.order 1", {"solver": choose(heun, order=1)}),
        ("--solver.kind ddim --solver.eta 1", {"solver": choose(ddim, eta=1.0)}),
        (
            "--solver.kind churn --solver.solver.eta 1 --solver.s-max 9",
            {"solver": choose(churn, solver=choose(ddim, eta=1.0), s_max=9.0)},
        ),
        (
            "--solver.solver.solver.order 1 --solver.solver.solver.kind heun --solver.solver.kind churn --solver.kind churn",
            {"solver": choose(churn, solver=choose(churn, solver=choose(heun, order=1)))},
        ),
    ],
)
def test_a_valid_line_gives_the_values_it_names(
    line: str, changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(Settings(), line) == read(Settings, line) == dataclasses.replace(Settings(), **changed)
    assert capsys.readouterr() == ("", "")


def test_flags_change_their_own_settings_alone() -> None:
    start = Settings(
        model=Diffusion(Conv(channels=8, multipliers=(3,)), Table(label=Class(0.5))), augmentations=(Flip(),)
    )
    changed = read(start, "--model.network.channels 9 --model.conditions.text.kind Text --train.steps 7")
    conditions = Table(label=Class(0.5), text=Text())
    assert changed.model == Diffusion(Conv(channels=9, multipliers=(3,)), conditions)
    assert changed.train == Train(steps=7)
    assert changed.augmentations is start.augmentations
    assert read(start, "--augmentations none").augmentations == read(start, "--augmentations").augmentations == ()
    assert read(RICH, "--model.teacher none").model.teacher is None
    assert read(RICH, "--solver.solver.eta 1").solver == choose(churn, solver=choose(ddim, eta=1.0))
    assert isinstance(read(RICH, "--solver.s_min 1").solver, Choice)


# The line, and the words that the error names.
MALFORMED = [
    ("--train.stps 5", ["unknown flag '--train.stps'; did you mean '--train.steps'?"]),
    ("--train.learning-rte=1", ["unknown flag '--train.learning-rte'; did you mean '--train.learning_rate'?"]),
    ("--steps 5", ["'--steps'", "did you mean '--train.steps'?"]),
    ("-seed 5", ["unknown flag '-seed'; did you mean '--seed'?"]),
    ("--qqqqqqqq 2", ["unknown flag '--qqqqqqqq'; --help lists the valid ones"]),
    ("-q", ["unknown flag '-q'"]),
    ("--model.network.depth 2", ["unknown flag '--model.network.depth'"]),
    ("--model.network.chanels 2", ["did you mean '--model.network.channels'?"]),
    ("--model.network.kind Deep --model.network.detph 2", ["did you mean '--model.network.depth'?"]),
    ("--train.steps.more 2", ["unknown flag '--train.steps.more'"]),
    ("--train 2", ["unknown flag '--train'"]),
    ("--train.steps 0 --train.sedule x", ["'--train.sedule'", "did you mean '--train.schedule'?"]),
    ("extra", ["unexpected argument 'extra'"]),
    ("-- --seed", ["unexpected argument '--seed'"]),
    ("--seed 1 2", ["unexpected argument '2'; --seed takes integer"]),
    ("--model.network.multipliers=1 2", ["unexpected argument '2'"]),
    ("--train.resume no", ["unexpected argument 'no'; --train.resume takes true | false"]),
    ("--train.resume=no", ["unexpected argument 'no'; --train.resume takes true | false"]),
    ("--train.steps abc", ["--train.steps = 'abc'; allowed are integers"]),
    ("--train.steps=", ["--train.steps = ''; allowed are integers"]),
    ("--train.steps 1.0", ["--train.steps = '1.0'; allowed are integers"]),
    ("--train.steps --seed 4", ["--train.steps needs a value: integer"]),
    ("--train.schedule", ["--train.schedule needs a value: cosine | constant | none"]),
    ("--seed 1 --seed x", ["--seed = 'x'"]),
    ("--train.learning_rate nan", ["--train.learning_rate = 'nan'; allowed are numbers"]),
    ("--train.max-norm abc", ["--train.max_norm = 'abc'; allowed are numbers, and none"]),
    ("--train.optimizer adm", ["--train.optimizer = 'adm'; allowed are 'adam', 'adamw', 'sgd'; did you mean 'adam'?"]),
    ("--train.schedule cosin", ["--train.schedule = 'cosin'", "did you mean 'cosine'?"]),
    ("--solver.order 3", ["--solver.order = '3'; allowed are 1, 2"]),
    ("--train.image-size 8", ["--train.image_size = [8]", "2 values"]),
    ("--train.image-size 8 b", ["--train.image_size.1 = 'b'; allowed are integers"]),
    ("--model.network.multipliers 1 two", ["--model.network.multipliers.1 = 'two'; allowed are integers"]),
    ("--train.overrides a", ["--train.overrides = 'a'; allowed are NAME=VALUE"]),
    ("--train.steps 0", ["--train.steps = 0; allowed are integers of at least 1"]),
    ("--train.learning-rate=-1", ["--train: too slow"]),
    ("--seed -1", ["--seed = -1; allowed are integers of at least 0"]),
    ("--model.network.kind", ["--model.network.kind needs a value: Bare | Conv | Deep"]),
    (
        "--model.network.kind Dep",
        ["--model.network.kind = 'Dep'; allowed are Bare, Conv, Deep", "did you mean 'Deep'?"],
    ),
    ("--model.network.kind Dep --model.network.depth 3", ["--model.network.kind = 'Dep'"]),
    ("--model.network.kind Bare", ["--model.network.width is missing; Bare needs it"]),
    ("--model.network Deep", ["--model.network = 'Deep'; allowed are --model.network.kind Bare | Conv | Deep"]),
    (
        "--model.teacher Deep",
        ["--model.teacher = 'Deep'; allowed are none and --model.teacher.kind Bare | Conv | Deep"],
    ),
    (
        "--model.teacher.depth 3",
        ["--model.teacher is none", "--model.teacher.depth", "allowed are --model.teacher.kind Bare"],
    ),
    ("--model.conditions.lable none", ["'--model.conditions.lable'; did you mean '--model.conditions.label'?"]),
    ("--model.conditions.label Text", ["--model.conditions.label.kind Class | Text"]),
    ("--model.conditions Text", ["--model.conditions = 'Text'; allowed are none and --model.conditions.NAME.kind"]),
    ("--model.conditions.text.kind Txt", ["--model.conditions.text.kind = 'Txt'", "did you mean 'Text'?"]),
    ("--augmentations Flip", ["--augmentations = 'Flip'; allowed are none and --augmentations.0.kind Crop | Flip"]),
    ("--augmentations.1.kind Flip", ["unknown flag '--augmentations.1.kind'"]),
    ("--augmentations.0.kind Flip --augmentations.0.probability 2", ["--augmentations.0.probability = 2.0"]),
    ("--augmentations.0.size 2 2", ["--augmentations.0 is none"]),
    ("--solver.kind dim", ["--solver.kind = 'dim'; allowed are churn, ddim, heun", "did you mean 'ddim'?"]),
    ("--solver.eta 1", ["unknown flag '--solver.eta'"]),
    ("--solver.kind nosuch:solver", ["--solver.kind = 'nosuch:solver': nosuch is not imported"]),
    ("--solver.kind os:path --solver.eta 1", ["--solver.kind = 'os:path'; allowed are"]),
]


@pytest.mark.parametrize(("line", "named"), MALFORMED, ids=[line for line, _ in MALFORMED])
def test_a_malformed_line_is_one_line_and_status_2(
    line: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(lambda: read(Settings(), line), capsys)
    for words in named:
        assert words in message


def test_malformed_lines_made_from_types_name_their_flags(capsys: pytest.CaptureFixture[str]) -> None:
    lines = malformed(RICH)
    assert len(lines) == 300
    for arguments, flag in lines:
        message = refused(functools.partial(command_line.parse, RICH, arguments), capsys)
        assert flag in message, (arguments, message)


def test_long_values_are_shown_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "x" * 290 in refused(lambda: read(Settings(), f"--train.steps {'x' * 290}"), capsys)


@pytest.mark.parametrize(
    "line", ["runs/x --count 3", "--count 3 runs/x --json", "--json runs/x --count=3", "--count 3 -- runs/x"]
)
def test_a_positional_argument_may_stand_anywhere(line: str) -> None:
    assert read(Draw, line) == Draw(pathlib.Path("runs/x"), 3, json="json" in line)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("", "missing RUN, --count"),
        ("--count 3", "missing RUN"),
        ("runs/x", "missing --count"),
        ("runs/x --cont 3", "unknown flag '--cont'; did you mean '--count'?"),
        ("runs/x runs/y --count 3", "unexpected argument 'runs/y'"),
        ("--run runs/x --count 3", "unknown flag '--run'"),
    ],
)
def test_a_mistake_beside_a_positional_argument_is_one_line(
    line: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in refused(lambda: read(Draw, line), capsys)


def test_a_command_is_called_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    def sample(arguments: Draw) -> Draw:
        """Draws samples from a run."""
        if arguments.count < 1:
            raise ValueError(f"count = {arguments.count};\n\n  allowed are positive integers")
        print("progress", file=sys.stderr)
        return arguments

    assert command_line.run(sample, ["runs/x", "--count", "3", "--label", "-2"]) == Draw(pathlib.Path("runs/x"), 3, -2)
    assert capsys.readouterr() == ("", "progress\n")
    message = refused(lambda: command_line.run(sample, ["runs/x", "--count", "0"]), capsys)
    assert message == "count = 0; allowed are positive integers"
    with pytest.raises(SystemExit) as stop:
        command_line.run(sample, ["--help"], prog="sample.py")
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: sample.py RUN [--path value ...]\n\nDraws samples from a run.\n")
    assert "  RUN path (required)\n      The run directory.\n" in out
    assert "  --count integer (required)\n      The number of samples.\n" in out


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
    def main(arguments: Nothing) -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        command_line.run(main, [])
    assert stop.value.code == status
    assert capsys.readouterr() == ("", f"error: {expected}\n")


def test_a_defect_keeps_its_traceback() -> None:
    def main(arguments: Nothing) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        command_line.run(main, [])


def test_a_variable_shows_the_traceback_of_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXDIFF_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        read(Settings(), "--train.steps 0")
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in __post_init__" in err
    assert err.splitlines()[-1].startswith("error: --train.steps = 0")
