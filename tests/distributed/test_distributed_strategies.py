"""Strategies: the shardings of a state, the rows that a process reads, and the same steps with every strategy."""

import json
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from devices import ROOT, forced

from jaxdiff import distributed
from jaxdiff.networks import DiT


@pytest.mark.parametrize(
    ("shape", "devices", "axis"),
    [
        ((3, 3, 256, 128), 8, 2),  # the longest axis
        ((3, 3, 128, 128), 8, 3),  # the last of equally long axes
        ((3, 3, 100, 128), 8, 3),
        ((3, 3, 1000, 100), 16, None),  # 16 divides no axis
        ((3, 3, 1000, 96), 16, 3),
        ((4096,), 8, 0),
        ((1024,), 8, None),  # small
        ((), 8, None),
        ((3, 3, 256, 128), 1, None),
        ((2048, 1), 2048, 0),
    ],
)
def test_the_longest_axis_that_the_devices_divide_is_sharded(shape, devices, axis):
    assert distributed.sharded_axis(shape, devices) == axis


def test_the_axis_of_layers_is_not_sharded():
    """Heads, and the hidden axis of feed-forward layers, are; also where there are more layers than channels."""
    assert distributed.sharded_axis((512, 64, 64), 8) == 0
    assert distributed.sharded_axis((512, 64, 64), 8, stacked=True) == 2
    assert distributed.sharded_axis((4096, 7), 8, stacked=True) is None
    network = DiT(width=64, depth=512, heads=8)
    x, mesh = jax.ShapeDtypeStruct((1, 8, 8, 4), np.float32), jax.sharding.AbstractMesh((1, 8), ("data", "fsdp"))
    params = jax.eval_shape(network.init, jax.random.key(0), x, jax.ShapeDtypeStruct((1,), np.float32))["params"]
    specs = jax.tree.map(lambda s: tuple(s.spec), distributed.state_shardings(mesh, {"params": params}))["params"]
    layers = specs["layers"]
    assert layers["attention"]["qkv"]["kernel"] == (None, None, "fsdp")
    assert layers["feed_forward"]["in"]["kernel"] == (None, None, "fsdp")
    assert layers["feed_forward"]["out"]["kernel"] == (None, "fsdp")
    assert not [
        spec for spec in jax.tree.leaves(layers, is_leaf=lambda s: isinstance(s, tuple)) if spec[:1] == ("fsdp",)
    ]
    # Queries, keys and values lie side by side, heads within them: each of 8 devices has 3 of the 24.
    assert params["layers"]["attention"]["qkv"]["kernel"].shape[-1] // 8 == 3 * 64 // 8


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"(": "0"}, r"overrides = '\('; allowed are regular expressions: missing"),
        ({"kernel": "first"}, r"overrides\['kernel'\] = 'first'; allowed are 'none' and the number of an axis"),
        ({"kernel": "-1"}, r"overrides\['kernel'\] = '-1'; allowed are 'none' and the number of an axis"),
    ],
)
def test_wrong_overrides_are_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        distributed.check_overrides(overrides)


def test_on_one_device_every_leaf_stays_whole():
    mesh = distributed.make_mesh(jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1}
    shardings = distributed.state_shardings(mesh, {"w": jax.ShapeDtypeStruct((4096,), np.float32)})
    assert shardings["w"].is_fully_replicated
    with pytest.raises(ValueError, match=r"parallel\.fsdp = 2; allowed are divisors of the 1 devices"):
        distributed.make_mesh(jax.devices()[:1], fsdp=2)


EIGHT = """
    import dataclasses, json
    import jax, numpy as np
    import pytest
    from jaxdiff import data, distributed
    from jaxdiff.data.fields import Field
    from jaxdiff.conditions import Label
    from jaxdiff.models import Diffusion
    from jaxdiff.networks import UNet
    from jaxdiff.runs import opened, program, recipe
    from jaxdiff.runs.config import Config, LoadingConfig, ParallelConfig, TrainConfig
    from distillation import CONFIG

    assert jax.device_count() == 8
    found = {}

    # Rows: on any mesh, whatever the order of its devices, each device gets the rows that the sharding assigns to it.
    rows = np.arange(48.0).reshape(16, 3).astype(np.float32)
    for mesh in (distributed.make_mesh(), distributed.make_mesh(fsdp=4), distributed.make_mesh(jax.devices()[::-1], 2)):
        placed = distributed.place_rows(mesh, {"x": rows}, False)["x"]
        np.testing.assert_array_equal(placed, rows)
        assert all(np.array_equal(s.data, rows[s.index]) for s in placed.addressable_shards)
        assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}
        stacked = distributed.place_rows(mesh, {"x": np.stack([rows, -rows])}, True)["x"]
        assert {s.data.shape for s in stacked.addressable_shards} == {(2, 2, 3)}
        np.testing.assert_array_equal(stacked[1], -rows)
        with pytest.raises(ValueError, match="train.batch_size = 12; allowed are multiples of 8, for 8 devices"):
            distributed.process_rows(mesh, 12)

    # Overrides: by name; the first match counts.
    mesh = distributed.make_mesh(fsdp=8)
    shapes = {"a": {"kernel": jax.ShapeDtypeStruct((64, 128), np.float32)}, "b": jax.ShapeDtypeStruct((8, 3), np.float32)}
    spec = lambda overrides: jax.tree.map(lambda s: tuple(s.spec), distributed.state_shardings(mesh, shapes, overrides))
    assert spec(None) == {"a": {"kernel": (None, "fsdp")}, "b": ()}
    assert spec({"a.kernel": "0"}) == {"a": {"kernel": ("fsdp",)}, "b": ()}
    assert spec({"kernel$": "none", "^b$": "0"}) == {"a": {"kernel": ()}, "b": ("fsdp",)}
    for overrides, words in (
        ({"c": "0"}, "overrides = c; allowed are patterns that match a leaf"),
        ({"b": "1"}, "= '1'; allowed are 'none' and axes that 8 devices divide: b has the shape"), ({"b": "2"}, "= '2'"),
    ):
        with pytest.raises(ValueError, match=words):
            spec(overrides)

    # FSDP divides the whole state, with the 35.7 million parameters of DDPM.
    fields = {"image": Field("picture", (32, 32, 3), "uint8"), "label": Field("label", (), "int32", 10)}
    large = Config(model=Diffusion(network=UNet(), conditions={"label": Label()}))
    nothing = recipe.load_frozen(large, None)
    shapes = jax.eval_shape(recipe.make_training(large, fields, nothing).initial, nothing)
    for fsdp in (1, 2, 4, 8):
        held = distributed.Sharded(distributed.make_mesh(fsdp=fsdp)).canonical_shapes(shapes)
        size = lambda shape: int(np.prod(shape))
        here = sum(size(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(held))
        found[f"share of {fsdp}"] = here / sum(size(leaf.shape) for leaf in jax.tree.leaves(held))

    # Every strategy makes the same steps: with a frozen teacher, an encoder of names that is trained jointly, flips,
    # dropped conditions, groups of the optimiser, and parameters and mutable values of the objective.
    train = TrainConfig(steps=4, batch_size=32, ema_widths=(0.1,), log_every=2, checkpoint_every=2, sample_every=0)
    base = dataclasses.replace(CONFIG, train=train, optimizer=dataclasses.replace(CONFIG.optimizer, warmup=0))
    examples = base.data.open()
    plain = dataclasses.replace(base, objective=Config().objective)
    of_teacher = recipe.make_training(plain, examples.fields, recipe.load_frozen(plain, None))
    # The weights differ from those of the student, which begins at random.
    weights = jax.tree.map(np.array, of_teacher.bound.init(jax.random.key(7)))
    teacher = of_teacher.bound.loaded(weights, {"codec": None, "conditions": {"name": None}}, {}, base.sample)

    WAYS = {
        "single": ({"strategy": "single"}, "memory"),
        "jit, data": ({}, "memory"),
        "jit, in parts, two steps a call": ({"fsdp": 2, "accumulate": 2, "steps_per_call": 2}, "memory"),
        "pmap, on the device": ({"strategy": "pmap"}, "device"),
    }
    for name, (settings, placement) in WAYS.items():
        config = dataclasses.replace(base, parallel=ParallelConfig(**settings), loading=LoadingConfig(placement))
        frozen = recipe.load_frozen(config, {"teacher": teacher}.get)
        training = recipe.make_training(config, examples.fields, frozen)
        made = program.make_program(training, frozen)
        fsdp = settings.get("fsdp", 1)
        for leaf in jax.tree.leaves(made.frozen):
            # The teacher lies on the devices as parameters do.
            if name.startswith("pmap"):
                assert leaf.shape[0] == 8 and len(leaf.sharding.device_set) == 8
                continue
            axis = distributed.sharded_axis(leaf.shape, fsdp)
            wanted = tuple([None] * axis + ["fsdp"]) if axis is not None else ()
            assert tuple(leaf.sharding.spec) == wanted, (leaf.shape, leaf.sharding)
            assert leaf.sharding.mesh == made.strategy.mesh
        if not name.startswith("pmap"):
            found[f"frozen over {fsdp}"] = sum(not leaf.is_fully_replicated for leaf in jax.tree.leaves(made.frozen))
        loaded = opened.open_entries(config, examples, training.entries)
        batches = program.make_batches(config, loaded.training, made.strategy)
        # The mesh of pmap is one of jit's: initialising and drawing on it would repeat the work of the second way.
        repeats = name in ("pmap, on the device", "jit, data")
        put = lambda leaf, shape: jax.device_put(jax.numpy.copy(leaf), shape.sharding)
        canonical = jax.tree.map(put, kept, made.shapes) if repeats else made.initialise(None)
        if name == "single":
            kept = jax.tree.map(jax.numpy.copy, canonical)
        trained = lambda state: (state.params, state.ema, state.extra)
        initial = jax.tree.map(np.array, trained(canonical))
        arrays = (made.strategy.place_whole(data.device_arrays(loaded.training)),) if placement == "device" else ()
        state, losses = made.strategy.from_canonical(canonical), []
        for _ in range(0, 4, config.parallel.steps_per_call):
            state, metrics = made.call(state, next(batches), made.frozen, *arrays)
            columns = [np.atleast_1d(np.asarray(metrics[n])) for n in ("loss", "error", "usual", "grad_norm")]
            losses += np.stack(columns, 1).tolist()
        batches.close()
        canonical = made.strategy.to_canonical(state)
        wanted = jax.tree.map(lambda leaf: leaf.sharding, made.shapes)
        jax.tree.map(lambda leaf, sharding: leaf.sharding.is_equivalent_to(sharding, leaf.ndim) or 1 / 0, canonical, wanted)
        whole = jax.tree.map(np.asarray, trained(canonical))
        apart = lambda a, b: max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (a, b))))
        if name == "single":
            first, first_losses = whole, losses
            found["moved"] = {n: float(apart(whole[0][n], initial[0][n])) for n in whole[0]}
            found["moved"] |= {"average": float(apart(whole[1], initial[1])), "extra": float(apart(whole[2], initial[2]))}
        else:
            found[name] = {
                "losses": float(np.max(np.abs(np.subtract(losses, first_losses)) / np.abs(first_losses))),
                "parameters": float(apart(whole, first)),
            }
        if not repeats:
            model = training.bound.loaded(canonical.ema["ema"], frozen["model"], {}, config.sample)
            pictures = model.sample(jax.random.key(0), 5, mesh=made.strategy.mesh, name="four")
            if name == "single":
                first_pictures = pictures
            else:
                found[name]["pictures"] = float(np.abs(pictures - first_pictures).max())
    print(json.dumps(found))
"""


@pytest.mark.long
def test_eight_devices_make_the_steps_of_one():
    environment = forced(8)
    environment["PYTHONPATH"] += f":{ROOT / 'scripts' / 'studies'}"
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EIGHT)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    moved, shares = found.pop("moved"), {n: found.pop(f"share of {n}") for n in (1, 2, 4, 8)}
    # Every part of the state moves far more than the ways differ.
    assert set(moved) == {"model", "conditions", "objective", "average", "extra"}
    assert min(moved.values()) > 1e-3, moved
    assert found.pop("frozen over 1") == 0
    assert found.pop("frozen over 2") > 5
    assert len(found) == 3
    for name, apart in found.items():
        assert apart["losses"] < 1e-5, (name, apart)
        assert apart["parameters"] < 1e-4, (name, apart)
    assert found["jit, in parts, two steps a call"]["pictures"] < 1e-3
    for devices, share in shares.items():
        assert 1 <= share * devices < 1.1
