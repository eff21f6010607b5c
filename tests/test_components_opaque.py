"""Fingerprints of objects that JSON cannot name: the same in every process, and another one after a change."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import optax
import pytest

from jaxdiff.components import Opaque, fingerprint, from_json, to_json

PROGRAM = '''
import functools

SCALE = 2.0


def helper(x):
    return SCALE * x


class Base:
    def run(self, x):
        return helper(x)


class Network(Base):
    width = 3

    def __init__(self, depth=2):
        self.depth = depth

    def __call__(self, x):
        return self.run(x) + self.width


def make(rate):
    def loss(x, weight=1.0):
        """The loss."""
        return rate * weight * helper(x)
    return loss


increase = lambda x: x + 1
THINGS = {
    "function": make(0.1), "class": Network, "object": Network(), "partial": functools.partial(helper, 3),
    "method": Network().run, "lambda": increase, "tree": {"a": (1, 2.5), "b": {1, 2}},
}
'''


def things(text, path):
    """The objects of a program with this text."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("user", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["user"] = module
    spec.loader.exec_module(module)
    return {name: fingerprint(thing) for name, thing in module.THINGS.items()}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setitem(sys.modules, "user", None)


def test_the_fingerprint_is_that_of_another_process(tmp_path):
    found = things(PROGRAM, tmp_path / "user.py")
    program = "import json, user; from jaxdiff.components import fingerprint; "
    program += "print(json.dumps({name: fingerprint(thing) for name, thing in user.THINGS.items()}))"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}", "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == found
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("    return SCALE * x", "    # The scale.\n    return SCALE*x", set()),
        ("SCALE = 2.0", "SCALE = 3.0", {"function", "class", "object", "partial", "method"}),
        ("SCALE * x", "SCALE + x", {"function", "class", "object", "partial", "method"}),
        ("make(0.1)", "make(0.2)", {"function"}),
        ("weight=1.0", "weight=2.0", {"function"}),
        ("width = 3", "width = 4", {"class", "object", "method"}),
        ("Network(), ", "Network(3), ", {"object"}),
        ("helper, 3", "helper, 4", {"partial"}),
        ("x + 1", "x + 2", {"lambda"}),
        ("2.5", "2.25", {"tree"}),
    ],
)
def test_a_change_of_the_program_changes_the_fingerprint(old, new, changed, tmp_path):
    assert old in PROGRAM
    before, after = things(PROGRAM, tmp_path / "one.py"), things(PROGRAM.replace(old, new), tmp_path / "two.py")
    assert {name for name in before if before[name] != after[name]} == changed


def test_arrays_go_by_their_contents_and_installed_code_by_its_options():
    a, b = np.arange(3), np.arange(3.0)
    assert fingerprint(a) == fingerprint(a.copy()) != fingerprint(b)
    assert fingerprint(optax.adam(1e-3)) == fingerprint(optax.adam(1e-3)) != fingerprint(optax.adam(2e-3))
    cycle = [1]
    cycle.append(cycle)
    assert fingerprint(cycle)


class Own(Opaque):
    held = staticmethod(np.tanh)


def test_an_opaque_setting_is_written_and_must_be_given_again():
    tree = to_json({"x": Own()})
    assert tree["x"]["kind"] == "opaque"
    with pytest.raises(ValueError, match=r"model\.x is an object of the user's own, .*which a file cannot hold"):
        from_json(dict[str, int], tree, "model")
