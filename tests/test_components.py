"""Components: settings to JSON and back, errors that name the setting, choices of functions, and lists of settings."""

import dataclasses
import functools
import inspect
import json
import math
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import numpy as np
import pytest

from jaxdiff import solvers
from jaxdiff.components import (
    Choice,
    Choices,
    Component,
    Part,
    Setting,
    Table,
    at,
    choose,
    from_json,
    is_part,
    kinds_of,
    options_of,
    settings_of,
    to_json,
    walk,
)

__all__ = ["Circle", "Layer", "Shape", "Square", "grow", "helper", "shrink"]


class Shape(Component):
    home = __name__


@dataclasses.dataclass(frozen=True)
class Circle(Shape):
    radius: float = 1.0
    cached: Any = dataclasses.field(default=None, metadata={"setting": False})

    def __post_init__(self):
        if self.radius <= 0:
            raise ValueError(f"radius = {self.radius}; allowed are numbers above 0")


@dataclasses.dataclass(frozen=True)
class Square(Shape):
    side: int
    inner: Shape | None = None


class Layer(nn.Module, Shape):
    width: int = 4
    act: Literal["relu", "gelu"] = "relu"

    def __call__(self, x):
        return nn.Dense(self.width)(x)


class Stranger(Circle):
    """A component that its home does not show, as one of a user's."""


def grow(x, *, rate: float = 1.0, limit: float = math.inf, power: int = 1):
    return x * (1 + rate) ** power


def shrink(x, *, by: "FunctionChoice", rates: tuple[float, ...] = (), power: int = 1):
    return by(x) / 2


def helper(x, y):
    return x + y


FunctionChoice = Annotated[Callable[..., Any], Choices(__name__, ("x",))]
GROW = choose(grow)


@dataclasses.dataclass(frozen=True)
class Span:
    low: float
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class Tree:
    shape: Shape = Circle()
    function: FunctionChoice = GROW
    maybe: FunctionChoice | None = None
    layers: tuple[Shape, ...] = ()
    named: dict[str, Shape] = dataclasses.field(default_factory=Table)
    spans: tuple[Span, ...] = ()
    pair: tuple[int, str] = (1, "a")
    size: int | tuple[int, ...] = 3
    rates: dict[str, float] = dataclasses.field(default_factory=Table)
    word: Literal["on", "off", 2] = "on"
    flag: bool = False
    limit: float | None = None
    teacher: Part = ""


FULL = Tree(
    shape=Square(2, inner=Layer(width=8, act="gelu")),
    function=choose(shrink, by=choose(grow, rate=0.5, limit=3.0), rates=(0.1, 0.2)),
    maybe=choose(grow),
    layers=(Circle(2.0), Square(1)),
    named=Table(a=Circle(3.0), b=Square(4, Circle())),
    spans=(Span(-math.inf, math.inf), Span(0.5)),
    pair=(7, "b"),
    size=(4, 5),
    rates=Table(x=0.5),
    word=2,
    flag=True,
    limit=math.inf,
    teacher="runs/teacher",
)


# ------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("tree", [Tree(), FULL])
def test_settings_come_back_from_json(tree):
    text = json.dumps(to_json(tree), allow_nan=False)
    back = from_json(Tree, json.loads(text))
    assert back == tree
    assert hash(back) == hash(tree)
    assert json.dumps(to_json(back)) == text
    assert from_json(Tree, tree) is tree  # a setting that is made already


def test_numbers_and_arrays_of_numpy_count_as_pythons():
    given = Tree(
        shape=Square(np.int64(2), inner=Layer(width=np.uint8(8))),
        function=choose(shrink, by=choose(grow, rate=np.float32(0.5), limit=np.int64(3)), rates=np.array([0.25, 0.5])),
        spans=(Span(np.float64(-math.inf)),), size=np.int32(4), rates=Table(x=np.float16(0.5)), flag=np.bool_(True),
    )  # fmt: skip
    plain = Tree(
        shape=Square(2, inner=Layer(width=8)),
        function=choose(shrink, by=choose(grow, rate=0.5, limit=3.0), rates=(0.25, 0.5)),
        spans=(Span(-math.inf),), size=4, rates=Table(x=0.5), flag=True,
    )  # fmt: skip
    text = json.dumps(to_json(given))
    assert text == json.dumps(to_json(plain))
    assert from_json(Tree, json.loads(text)) == plain
    made = from_json(tuple[int, float, bool], [np.int8(1), np.int64(2), np.bool_(False)])
    assert (made, [*map(type, made)]) == ((1, 2.0, False), [int, float, bool])
    with pytest.raises(ValueError, match=r"n = 3\.0; allowed are integers"):
        from_json(int, np.float32(3), "n")


def test_json_as_it_is_written():
    tree = to_json(FULL)
    assert tree["shape"] == {
        "kind": "Square", "side": 2, "inner": {"kind": "Layer", "width": 8, "act": "gelu"},
    }  # fmt: skip
    inner = {"kind": f"{__name__}:grow", "rate": 0.5, "limit": 3.0, "power": 1}
    assert tree["function"] == {"kind": f"{__name__}:shrink", "by": inner, "rates": [0.1, 0.2], "power": 1}
    assert tree["spans"] == [{"low": "-inf", "high": "inf"}, {"low": 0.5, "high": 1.0}]
    assert tree["named"]["a"] == {"kind": "Circle", "radius": 3.0}  # `cached` is no setting
    assert to_json(grow) == to_json(choose(grow)) == {**inner, "rate": 1.0, "limit": "inf"}


def test_defaults_fill_a_tree_of_few_settings():
    assert from_json(Tree, {"shape": {"kind": "Square", "side": 2}}) == Tree(shape=Square(2))
    assert from_json(float, 2) == 2.0
    assert isinstance(from_json(float, 2), float)
    assert from_json(tuple[int, ...], [1, 2]) == (1, 2)
    assert isinstance(from_json(dict[str, float], {"a": 1}), Table)
    assert from_json(int | float, 2.5) == 2.5
    assert from_json(Part, "runs/a") == "runs/a"


def test_tables_of_the_same_entries_are_equal_and_have_one_hash():
    one, other = Table(a=1.0, b=2.0), Table(b=2.0, a=1.0)
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros(2, complex), TypeError, "type of a setting = 'complex'; allowed are numbers, words"),
        (object(), TypeError, "type of a setting = 'object'"),
        ({"a": (math.nan,)}, ValueError, "setting = nan; allowed are numbers and infinities"),
    ],
)
def test_values_that_are_no_settings(value, error, message):
    with pytest.raises(error, match=message):
        to_json(value)


# ------------------------------------------------------------------------------------------ errors

WRONG = [
    ({"shpe": {}}, "shpe is unknown; there are shape, .*; did you mean 'shape'"),
    ({"shape": 3}, "shape = 3; allowed are objects with the settings of Shape"),
    ({"shape": {"radius": 1.0}}, "shape.kind is missing; allowed are Circle, Layer, Square$"),
    ({"shape": {"kind": "Circel"}}, "shape.kind = 'Circel'; allowed are Circle, Layer, Square, and MODULE:NAME; did you mean 'Circle'"),
    ({"shape": {"kind": "Circle", "radus": 1}}, "shape.radus is unknown; there are radius; did you mean 'radius'"),
    ({"shape": {"kind": "Circle", "cached": 1}}, "shape.cached is unknown; there are radius"),
    ({"shape": {"kind": "Circle", "radius": -1}}, "shape.radius = -1.0; allowed are numbers above 0"),
    ({"shape": {"kind": "Circle", "radius": "1"}}, "shape.radius = '1'; allowed are numbers"),
    ({"shape": {"kind": "Circle", "radius": math.nan}}, "shape.radius = nan; allowed are numbers"),
    ({"shape": {"kind": "Square"}}, "shape.side is missing; Square needs it"),
    ({"shape": {"kind": "Square", "side": 2.0}}, "shape.side = 2.0; allowed are integers"),
    ({"shape": {"kind": "Square", "side": True}}, "shape.side = True; allowed are integers"),
    ({"shape": {"kind": "Square", "side": 2, "inner": {"kind": "Layer", "act": "rleu"}}},
     "shape.inner.act = 'rleu'; allowed are 'relu', 'gelu'; did you mean 'relu'"),
    ({"shape": {"kind": "Square", "side": 2, "inner": 5}}, "shape.inner = 5; allowed are objects with the settings of Shape, and none"),
    ({"shape": {"kind": "grow"}}, "shape.kind = 'grow'; allowed are Circle"),
    ({"function": 3}, "function = 3; allowed are objects with a 'kind'"),
    ({"function": {"kind": "gow"}}, "function.kind = 'gow'; allowed are grow, shrink, and MODULE:NAME; did you mean 'grow'"),
    ({"function": {"kind": "helper"}}, "function.kind = 'helper'; allowed are grow, shrink"),
    ({"function": {"kind": "grow", "x": 1.0}}, "function.x is unknown; there are rate, limit, power"),
    ({"function": {"kind": "shrink", "by": {"kind": "grow", "rate": "fast"}}}, "function.by.rate = 'fast'; allowed are numbers"),
    ({"function": {"kind": "shrink"}}, "function.by is missing; shrink needs it"),
    ({"function": helper}, "function.kind = 'helper'; allowed are grow, shrink, and functions with such arguments"),
    ({"function": Choice(grow, (("speed", 1.0),))}, "function.speed is unknown"),
    ({"maybe": 3}, "maybe = 3; allowed are objects with a 'kind', and none"),
    ({"layers": {"kind": "Circle"}}, "layers = .*; allowed are lists"),
    ({"layers": [{"kind": "Circle"}, {"kind": "Circle", "radius": "r"}]}, "layers.1.radius = 'r'; allowed are numbers"),
    ({"named": [1]}, r"named = \[1\]; allowed are mappings of names"),
    ({"named": {"a": {"kind": "Square", "side": "s"}}}, "named.a.side = 's'; allowed are integers"),
    ({"spans": [{"high": 1.0}]}, "spans.0.low is missing; Span needs it"),
    ({"pair": [1]}, r"pair = \[1\]; allowed are lists of 2 values"),
    ({"pair": [1, 2]}, "pair.1 = 2; allowed are text"),
    ({"pair": "ab"}, "pair = 'ab'; allowed are lists"),
    ({"size": "big"}, "size = 'big'; allowed are integers and lists"),
    ({"size": [1, "b"]}, "size.1 = 'b'; allowed are integers"),
    ({"rates": {"x": None}}, "rates.x = None; allowed are numbers"),
    ({"word": "of"}, "word = 'of'; allowed are 'on', 'off', 2; did you mean 'off'"),
    ({"word": 2.0}, "word = 2.0; allowed are 'on', 'off', 2"),
    ({"flag": 1}, "flag = 1; allowed are true and false"),
    ({"limit": "none"}, "limit = 'none'; allowed are numbers, and none"),
    ({"teacher": 3}, "teacher = 3; allowed are text"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "error"), WRONG)
def test_an_error_names_the_setting(tree, error):
    with pytest.raises(ValueError, match=f"^model.{error}") as raised:
        from_json(Tree, tree, "model")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=f"^{error}"):
        from_json(Tree, tree)


@pytest.mark.parametrize(
    ("text", "located"),
    [
        ("steps = 0; allowed are more", "grid.steps = 0; allowed are more"),
        ("restarts[0].steps = 0; ...", "grid.restarts[0].steps = 0; ..."),
        ("(low, high) = (2, 1); ...", "grid: (low, high) = (2, 1); ..."),
        ("something is wrong", "grid: something is wrong"),
        ("grid.steps = 0; ...", "grid.steps = 0; ..."),
        ("grid = 0; ...", "grid = 0; ..."),
        ("grids = 0; ...", "grid.grids = 0; ..."),
    ],
)
def test_at_puts_the_path_before_an_error(text, located):
    for kind in (ValueError, TypeError):
        with pytest.raises(ValueError) as raised, at("grid"):  # noqa: PT011
            raise kind(text)
        assert str(raised.value) == located
    with pytest.raises(KeyError), at("grid"):
        raise KeyError(text)


# ------------------------------------------------------------------------------------------ choices


def test_a_choice_calls_its_function_with_its_options():
    choice = choose(grow, rate=0.5, power=2)
    assert choice(4.0) == 9.0
    assert choice(x=4.0, y=1.0, steps=3) == 9.0  # named arguments that the function does not take are left out
    assert choice(x=4.0, power=1) == 6.0  # and a named argument takes the place of an option
    assert choose(shrink, by=choice)(4.0) == 4.5


def test_choices_are_equal_by_their_functions_and_options():
    """Whatever the order in which the options are given, and whether they are defaults."""
    one = choose(shrink, power=1, rates=[1, 2], by=grow)
    other = choose(shrink, by=choose(grow, rate=1), rates=(1.0, 2.0))
    assert one == other
    assert hash(one) == hash(other)
    assert [name for name, _ in one.options] == ["by", "rates", "power"]
    assert one != choose(shrink, by=choose(grow, rate=2), rates=(1.0, 2.0))
    assert from_json(FunctionChoice, {"rates": [1, 2], "by": {"kind": "grow"}, "kind": "shrink"}) == one
    assert from_json(FunctionChoice, grow) == choose(grow)


def test_a_partial_is_a_choice_of_its_named_arguments():
    assert choose(functools.partial(grow, rate=0.5), power=2) == choose(grow, rate=0.5, power=2)
    assert choose(shrink, by=functools.partial(grow, power=3)) == choose(shrink, by=choose(grow, power=3))
    nested = functools.partial(functools.partial(grow, rate=0.5, power=2), power=3)
    assert from_json(FunctionChoice, nested) == choose(grow, rate=0.5, power=3)
    assert choose(choose(grow, rate=0.5), power=2) == choose(grow, rate=0.5, power=2)
    with pytest.raises(TypeError, match=r"positional arguments of a partial = \(4.0,\)"):
        choose(functools.partial(grow, 4.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose(grow, rte=1.0), "grow.rte is unknown; there are rate, limit, power; did you mean 'rate'"),
        (lambda: choose(grow, rate="fast"), "grow.rate = 'fast'; allowed are numbers"),
        (lambda: choose(shrink, by=helper), "shrink.by.kind = 'helper'"),
        (lambda: choose(shrink, by=choose(grow), power=1.5), "shrink.power = 1.5; allowed are integers"),
    ],
)
def test_choose_refuses_wrong_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_later_default_does_not_change_an_old_choice(monkeypatch):
    old, text = choose(grow), json.dumps(to_json(choose(grow)))
    assert old(1.0) == 2.0
    with monkeypatch.context() as patch:
        patch.setitem(grow.__kwdefaults__, "rate", 9.0)
        options_of.cache_clear()
        assert choose(grow)(1.0) == 10.0
        assert old(1.0) == 2.0
        assert from_json(FunctionChoice, json.loads(text))(1.0) == 2.0
    options_of.cache_clear()


def test_the_options_of_a_function_are_what_json_can_express():
    def function(
        process: solvers.Tableau,
        a: int,
        b: float | np.ndarray = 1.0,
        c: np.ndarray | None = None,
        d: tuple[float, ...] | np.ndarray | None = None,
        e: Annotated[str, "a word"] = "",
        f: dict[str, Shape] | None = None,
        g: Callable[..., Any] | None = None,
        h: Any = None,
        i=3,
        j: Span | np.ndarray = Span(0.0),
    ):
        """Takes many types."""

    options = options_of(function)
    assert {name: option.hint for name, option in options.items()} == {
        "a": int, "b": float, "d": tuple[float, ...] | None, "e": Annotated[str, "a word"],
        "f": dict[str, Shape] | None, "j": Span,
    }  # fmt: skip
    assert options["a"].default is inspect.Parameter.empty
    assert options["b"].default == 1.0


def test_an_argument_that_the_caller_gives_is_no_option_even_with_a_default():
    def grid(process, steps: int = 10, *, rho: float = 1.0):
        return process * steps * rho

    given = Choices(__name__, ("process", "steps"))
    choice = from_json(Annotated[Callable[..., Any], given], choose(grid, rho=2.0))
    assert choice.options == (("rho", 2.0),)
    assert choice(process=1.0, steps=3) == 6.0
    assert choose(grid)(process=1.0, steps=3) == 3.0
    with pytest.raises(ValueError, match=r"grid\.steps is unknown; there are rho"):
        from_json(Annotated[Callable[..., Any], given], choose(grid, steps=5), "grid")


# ------------------------------------------------------------------------------------------ kinds


def test_kinds():
    assert kinds_of(Shape) == {"Circle": Circle, "Layer": Layer, "Square": Square}
    assert kinds_of(Shape | None) == kinds_of(tuple[Shape, ...]) == kinds_of(dict[str, Shape]) == kinds_of(Shape)
    assert kinds_of(FunctionChoice) == kinds_of(FunctionChoice | None) == {"grow": grow, "shrink": shrink}
    assert kinds_of(tuple[FunctionChoice, ...]) == kinds_of(FunctionChoice)
    assert kinds_of(Circle) == {"Circle": Circle}
    for hint in (int, float | None, Literal["a"], tuple[int, ...], Part, Span):
        assert kinds_of(hint) == {}


def test_settings_of_a_class():
    assert list(settings_of(Circle)) == ["radius"]
    assert list(settings_of(Layer)) == ["width", "act"]  # not `parent` and `name`, which Linen adds
    assert settings_of(Square)["side"].default is inspect.Parameter.empty
    assert settings_of(Tree)["named"].default == {}


MODULE = """
import dataclasses, pathlib
from {home} import Shape

pathlib.Path(__file__).with_suffix(".imported").touch()

@dataclasses.dataclass(frozen=True)
class Star(Shape):
    points: int = 5

def leap(x, *, height: float = 1.0):
    return x + height

def needs(x, y):
    return x + y
"""


def test_a_kind_of_a_users_own_is_never_imported_by_reading(tmp_path, monkeypatch):
    (tmp_path / "users_own_kinds.py").write_text(MODULE.format(home=__name__))
    monkeypatch.syspath_prepend(tmp_path)
    star, leap = {"kind": "users_own_kinds:Star", "points": 6}, {"kind": "users_own_kinds:leap", "height": 2.0}
    for hint, tree in ((Shape, star), (FunctionChoice, leap)):
        with pytest.raises(ValueError, match=r"own\.kind = 'users_own_kinds:.*users_own_kinds is not imported"):
            from_json(hint, tree, "own")
    assert not (tmp_path / "users_own_kinds.imported").exists()

    import users_own_kinds as own

    monkeypatch.delitem(sys.modules, "users_own_kinds", raising=False)
    monkeypatch.setitem(sys.modules, "users_own_kinds", own)
    assert from_json(Shape, star) == own.Star(6)
    assert to_json(own.Star(6)) == star
    choice = from_json(FunctionChoice, leap)
    assert choice(1.0) == 3.0
    assert to_json(choice) == leap
    for hint, kind in ((Shape, "Moon"), (Shape, "leap"), (FunctionChoice, "needs"), (FunctionChoice, "pathlib")):
        with pytest.raises(ValueError, match=f"kind = 'users_own_kinds:{kind}'; allowed are names in users_own_kinds"):
            from_json(hint, {"kind": f"users_own_kinds:{kind}"})


def test_names_that_a_home_does_not_show_are_written_with_their_modules():
    """So that they can be read again, in jaxdiff too."""
    tree = to_json(Stranger(2.0))
    assert tree == {"kind": f"{__name__}:Stranger", "radius": 2.0}
    assert from_json(Shape, tree) == Stranger(2.0)
    assert to_json(solvers.heun)["kind"] == "heun"
    assert to_json(Choice(solvers.tableau.check_solver))["kind"] == "jaxdiff.solvers.tableau:check_solver"


# ------------------------------------------------------------------------------------------ walk


def test_walk_lists_every_setting_with_its_owner():
    found = list(walk(FULL, Tree))
    assert all(isinstance(setting, Setting) for setting in found)
    values = {setting.path: setting.value for setting in found}
    assert list(values) == [
        "shape.kind", "shape.side", "shape.inner.kind", "shape.inner.width", "shape.inner.act",
        "function.kind", "function.by.kind", "function.by.rate", "function.by.limit", "function.by.power",
        "function.rates", "function.power", "maybe.kind", "maybe.rate", "maybe.limit", "maybe.power",
        "layers.0.kind", "layers.0.radius", "layers.1.kind", "layers.1.side", "layers.1.inner",
        "named.a.kind", "named.a.radius", "named.b.kind", "named.b.side", "named.b.inner.kind", "named.b.inner.radius",
        "spans.0.low", "spans.0.high", "spans.1.low", "spans.1.high", "pair", "size", "rates", "word", "flag", "limit",
        "teacher",
    ]  # fmt: skip
    assert values["function.by.rate"] == 0.5
    assert values["shape.kind"] == FULL.shape
    assert values["rates"] == {"x": 0.5}
    owners = {setting.path: setting.owner for setting in found}
    assert owners["function.by.rate"] is owners["function.by.kind"] is grow
    assert owners["function.power"] is shrink
    assert owners["layers.1.side"] is Square
    assert owners["spans.0.low"] is Span
    assert owners["teacher"] is Tree
    hints = {setting.path: setting.hint for setting in found}
    assert hints["shape.inner.kind"] == Shape | None
    assert hints["function.by.kind"] == FunctionChoice
    assert hints["named.a.kind"] == hints["layers.0.kind"] == Shape
    assert hints["teacher"] == Part
    # Every setting that is no kind can be read again by its own type.
    for setting in found:
        if not setting.path.endswith(".kind"):
            assert from_json(setting.hint, to_json(setting.value), setting.path) == setting.value


def test_walk_below_a_path():
    assert [setting.path for setting in walk(Circle(), Shape, "model.shape")] == [
        "model.shape.kind", "model.shape.radius",
    ]  # fmt: skip
    assert list(walk(3, int, "steps", Tree)) == [Setting("steps", int, 3, Tree)]


@pytest.mark.parametrize(("hint", "part"), [(Part, True), (Part | None, True), (str, False), (str | None, False)])
def test_a_part_may_be_optional(hint, part):
    assert is_part(hint) is part
