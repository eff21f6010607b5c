"""Programs compiled for many chips: their collectives with kinds, sizes and repetitions, and their memory."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from devices import forced

from jaxdiff.data.fields import Field
from jaxdiff.presets import open_preset
from jaxdiff.runs import topologies
from jaxdiff.runs.compiled import Collective, collectives
from jaxdiff.runs.lowering import NOTHING
from jaxdiff.runs.topologies import open_topology

ROOT = Path(__file__).resolve().parents[2]
IMAGENET64 = open_preset(str(ROOT / "configs" / "imagenet64.py")).config
IMAGENET64_XL = open_preset(str(ROOT / "configs" / "imagenet64_xl.py")).config

# A program as libtpu writes it: layouts with tiles, tuples with counts in comments, groups named by the axes of a mesh,
# a reduce-scatter as a computation, a loop whose length is in its condition, and a gather that spans three fusions.
TPU = """HloModule jit_step, is_scheduled=true, num_partitions=16

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%all-reduce-scatter.3 (input: bf16[64,32]) -> bf16[64,8] {
  %input = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.8 = bf16[64,32]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7},{8,9,10,11},{12,13,14,15}}, to_apply=%add
  ROOT %dynamic-slice.1 = bf16[64,8]{1,0:T(8,128)(2,1)S(1)} dynamic-slice(%all-reduce.8, %c, %m), dynamic_slice_sizes={64,8}
}

%condition.1 (state: (s32[], bf16[64,32])) -> pred[] {
  %bound = s32[]{:T(128)} constant(6)
  %state = (s32[]{:T(128)}, bf16[64,32]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

%body.1 (state: (s32[], bf16[64,32])) -> (s32[], bf16[64,32]) {
  %state.1 = (s32[]{:T(128)}, bf16[64,32]{1,0:T(8,128)(2,1)}) parameter(0)
  %fusion.1 = bf16[64,8]{1,0:T(8,128)(2,1)S(1)} fusion(%h), kind=kCustom, calls=%all-reduce-scatter.3, metadata={op_name="jit(step)/all-gather(x)"}
}

%fused_computation.7 (shard: bf16[16,32]) -> (bf16[16,32], bf16[64,32]) {
  %all-gather.11 = bf16[64,32]{1,0:T(8,128)(2,1)} all-gather(%shard), channel_id=44, replica_groups=mesh['a'=4,'b'=4] {'b'}, dimensions={0}, use_global_device_ids=true, frontend_attributes={chain_id="27"}
  ROOT %custom-call.1 = (bf16[16,32]{1,0}, bf16[64,32]{1,0}) custom-call(%all-gather.11), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.3 (chained: bf16[64,32], y: f32[64]) -> (f32[64], bf16[64,32]) {
  %all-gather.12 = bf16[64,32]{1,0:T(8,128)(2,1)S(1)} all-gather(%chained), channel_id=44, replica_groups=mesh['a'=4,'b'=4] {'b'}, dimensions={0}, use_global_device_ids=true, frontend_attributes={chain_id="27"}
}

%fused_computation.8 (last: bf16[64,32]) -> bf16[64,32] {
  %all-gather.13 = bf16[64,32]{1,0:T(8,128)(2,1)} all-gather(%last), channel_id=44, replica_groups=mesh['a'=4,'b'=4] {'b'}, dimensions={0}, use_global_device_ids=true, frontend_attributes={chain_id="27"}
  ROOT %custom-call.2 = bf16[64,32]{1,0} custom-call(%all-gather.13), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main.1 (p: f32[128]) -> f32[128] {
  %all-gather.5 = bf16[6,8,8]{2,1,0:T(8,128)(2,1)S(1)} all-gather(%convert), channel_id=3, replica_groups=mesh['a'=4,'b'=4] {'b'}, dimensions={2}
  %while.3 = (s32[]{:T(128)}, bf16[64,32]{1,0:T(8,128)(2,1)}) while(%tuple), condition=%condition.1, body=%body.1
  %all-reduce.5 = (f32[128]{0:T(1024)S(1)}, f32[]{:T(128)}, /*index=2*/f32[3,5]{1,0}) all-reduce(%a, %b, /*index=2*/%c), replica_groups=[2,8]<=[16], to_apply=%add
  %get-tuple-element.9 = f32[128]{0} get-tuple-element(%all-reduce.5), index=0
  %collective-permute-start = (f32[10]{0}, f32[10]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%q), source_target_pairs={{0,1}}
  %collective-permute-done = f32[10]{0} collective-permute-done(%collective-permute-start)
  %all-gather-start.1 = ((f32[4]{0}, f32[2]{0}), (f32[64]{0}, f32[32]{0})) all-gather-start(%r, %s), replica_groups={}
  %all-gather-done.1 = (f32[64]{0}, f32[32]{0}) all-gather-done(%all-gather-start.1)
  %fusion.6 = (bf16[16,32]{1,0}, bf16[64,32]{1,0}) fusion(%u), kind=kLoop, calls=%fused_computation.7
  %fusion.7 = (f32[64]{0}, bf16[64,32]{1,0}) fusion(%fusion.6, %v), kind=kOutput, calls=%async_collective_fusion.3
  %fusion.8 = bf16[64,32]{1,0} fusion(%fusion.7), kind=kLoop, calls=%fused_computation.8
  %reduce-scatter.1 = f32[2]{0} reduce-scatter(%t), replica_groups={{0,1},{2,3}}, to_apply=%add
}
"""


def test_the_collectives_of_a_tpu_program_have_their_sizes_groups_and_repetitions():
    assert collectives(TPU, 16) == [
        Collective("all-gather", "bf16", 6 * 8 * 8 * 2, 4, 1, True),
        Collective("reduce-scatter", "bf16", 64 * 32 * 2, 4, 6, True),
        Collective("all-reduce", "f32", (128 + 1 + 15) * 4, 8, 1, True),
        Collective("collective-permute", "f32", 40, 16, 1, True),
        Collective("all-gather", "f32", 96 * 4, 16, 1, True),
        Collective("all-gather", "bf16", 64 * 32 * 2, 4, 1, True),
        Collective("reduce-scatter", "f32", 16, 2, 1, True),
    ]


def test_a_loop_of_unknown_length_counts_once_and_is_marked():
    text = TPU.replace("direction=LT", "direction=NE")
    (scattered,) = [one for one in collectives(text, 16) if one.kind == "reduce-scatter" and one.bytes == 64 * 32 * 2]
    assert (scattered.times, scattered.known) == (1, False)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("all-reduce", 2 * 3 / 4), ("all-gather", 3 / 4), ("reduce-scatter", 3 / 4), ("collective-permute", 1.0)],
)
def test_bytes_sent_around_a_ring_of_four(kind, sent):
    assert Collective(kind, "f32", 1000, 4, 5, True).sent == pytest.approx(5 * 1000 * sent)


COMPILED = """
import json, math
import jax, jax.numpy as jnp
from functools import partial
from jax.sharding import AxisType, PartitionSpec as P
from jaxdiff import distributed
from jaxdiff.conditions import Label
from jaxdiff.data.fields import Field
from jaxdiff.models import Classifier, Diffusion
from jaxdiff.networks import MLP
from jaxdiff.objectives import CrossEntropy
from jaxdiff.runs.compiled import collectives, compile_for
from jaxdiff.runs.config import Config, LoadingConfig, ParallelConfig, TrainConfig
from jaxdiff.runs.lowering import NOTHING, lower_sampling, lower_training
from jaxdiff.runs.recipe import make_training

mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
spread = partial(jax.shard_map, mesh=mesh, check_vma=False)
x = jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=jax.NamedSharding(mesh, P("x")))
round_trip = [(i, (i + 1) % 8) for i in range(8)]
known = {
    "all-reduce": spread(lambda x: jax.lax.psum(x, "x"), in_specs=P("x"), out_specs=P()),
    "all-gather": spread(lambda x: jax.lax.all_gather(x, "x"), in_specs=P("x"), out_specs=P()),
    "reduce-scatter": spread(lambda x: jax.lax.psum_scatter(x, "x", tiled=True), in_specs=P("x"), out_specs=P("x")),
    "collective-permute": spread(lambda x: jax.lax.ppermute(x, "x", round_trip), in_specs=P("x"), out_specs=P("x")),
    "all-to-all": spread(lambda x: jax.lax.all_to_all(x, "x", 0, 0, tiled=True), in_specs=P("x"), out_specs=P("x")),
    "loop": spread(
        lambda x: jax.lax.scan(lambda x, _: (jnp.sin(jax.lax.pmean(x, "x")), None), x, None, length=7)[0],
        in_specs=P("x"), out_specs=P("x"),
    ),
}
found = {
    name: [one._asdict() for one in collectives(jax.jit(f).lower(x).compile().as_text(), 8)]
    for name, f in known.items()
}

FIELDS = {"x": Field("values", (2,)), "label": Field("label", (), "int32", 4)}

def training_of(model=None, **settings):
    model = model or Diffusion(network=MLP(width=8, num_blocks=0), field="x")
    return make_training(Config(model=model, **settings), FIELDS, NOTHING)

training = training_of(Diffusion(network=MLP(width=64, num_blocks=1), field="x"))
told = training_of(Diffusion(network=MLP(width=64, num_blocks=1), field="x", conditions={"label": Label()}))
state = jax.eval_shape(training.initial, NOTHING)
found["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(state.params))
for fsdp in (1, 8):
    mesh = distributed.make_mesh(fsdp=fsdp)
    held = jax.tree.leaves(distributed.state_shardings(mesh, state))
    parts = [(leaf, one.shard_shape(leaf.shape)) for leaf, one in zip(jax.tree.leaves(state), held, strict=True)]
    # Every leaf has numbers of four bytes, but for the key, of eight.
    found[f"state {fsdp}"] = sum(math.prod(part) * (8 if leaf.dtype == state.key.dtype else 4) for leaf, part in parts)
    for name, lower in (("train", lower_training), ("sample", lower_sampling)):
        lowered = lower(training, mesh)
        demands = compile_for(lowered, 8)
        found[f"{name} {fsdp}"] = {
            "arguments": demands.arguments, "collectives": [one._asdict() for one in demands.collectives]
        }
    found[f"told {fsdp}"] = len(compile_for(lower_sampling(told, mesh), 8).collectives)
refused = {
    "batch": {"train": TrainConfig(batch_size=100)},
    "parts": {"train": TrainConfig(batch_size=1032), "parallel": ParallelConfig(accumulate=2)},
    "pmap": {"parallel": ParallelConfig(strategy="pmap")},
    "device": {"loading": LoadingConfig(placement="device")},
    "override": {"parallel": ParallelConfig(overrides={"dense_out.bias": "0"})},
}
for name, settings in refused.items():
    try:
        lower_training(training_of(**settings), mesh)
    except ValueError as error:
        found[name] = str(error)
try:
    classifier = Classifier(network=MLP(width=8, num_blocks=0), field="x")
    lower_sampling(training_of(classifier, objective=CrossEntropy()), mesh)
except ValueError as error:
    found["classifier"] = str(error)
try:
    distributed.make_mesh(fsdp=3)
except ValueError as error:
    found["fsdp"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compiled():
    done = subprocess.run([sys.executable, "-c", COMPILED], env=forced(8), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("all-reduce", 8 * 16 * 4),
        ("all-gather", 64 * 16 * 4),
        ("reduce-scatter", 8 * 16 * 4),
        ("collective-permute", 8 * 16 * 4),
        ("all-to-all", 8 * 16 * 4),
    ],
)
def test_collectives_that_were_asked_for_are_found(compiled, kind, size):
    (one,) = compiled[kind]
    assert (one["kind"], one["bytes"], one["times"], one["known"]) == (kind, size, 1, True)
    assert kind == "collective-permute" or one["group"] == 8


def test_a_collective_in_a_scan_counts_once_for_each_iteration(compiled):
    (one,) = compiled["loop"]
    assert (one["kind"], one["bytes"], one["times"], one["known"]) == ("all-reduce", 8 * 16 * 4, 7, True)


def test_data_parallel_training_reduces_each_gradient_once_and_two_metrics(compiled):
    """An all-reduce of every gradient, of the loss and of the squared error; nothing else leaves a chip."""
    exchanged = compiled["train 1"]["collectives"]
    assert {one["kind"] for one in exchanged} == {"all-reduce"}
    assert sum(one["bytes"] for one in exchanged) == 4 * (compiled["parameters"] + 2)


@pytest.mark.parametrize("fsdp", [1, 8])
def test_arguments_are_a_chips_share_of_the_state_and_of_the_batch(compiled, fsdp):
    batch = 128 // 8 * 2 * 4
    assert compiled[f"train {fsdp}"]["arguments"] == compiled[f"state {fsdp}"] + batch


def test_sharded_parameters_are_gathered_whole(compiled):
    gathered = [one for one in compiled["train 8"]["collectives"] if one["kind"] == "all-gather"]
    weights = 5 * 64 * 64 * 4  # the others are too small to be spread
    assert sum(one["bytes"] for one in gathered) == weights


def test_chips_exchange_nothing_while_they_draw_samples(compiled):
    """Neither of a model without conditions, nor of one with a class."""
    assert compiled["sample 1"]["collectives"] == []
    assert compiled["told 1"] == 0


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("batch", "train.batch_size = 100; allowed are multiples of 8"),
        ("parts", "train.batch_size = 1032; allowed are multiples of 16"),
        ("pmap", "parallel.strategy = 'pmap'; allowed are 'auto', 'jit'"),
        ("device", "loading.placement = 'device'; allowed are 'disk', 'memory'"),
        ("override", "parallel.overrides['dense_out.bias'] = '0'"),
        ("classifier", "model.kind = 'Classifier'; allowed are models that are sampled"),
        ("fsdp", "parallel.fsdp = 3; allowed are divisors of the 8 devices"),
    ],
)
def test_settings_that_eight_devices_do_not_allow_are_refused(compiled, case, words):
    assert compiled[case].startswith(words)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v5e-256", "did you mean 'v5e:16x16'"),
        ("v5e:0x4", "did you mean 'v5e:1x1'"),
        ("v5e:99999x99999", "did you mean 'v5e:16x16'"),
        ("v5p:8x8", "did you mean 'v5p:4x4x4'"),
        ("v5:8x8x8", "did you mean 'v5p:8x8x8'"),
        ("", "allowed are v5e, v5p, v6e"),
        ("v5e:16x16 ", "did you mean 'v5e:16x16'"),
    ],
)
def test_a_slice_that_is_not_offered_is_refused_with_the_nearest(name, hint):
    with pytest.raises(ValueError, match="topology = ") as refusal:
        open_topology(name)
    assert hint in str(refusal.value)


def test_without_the_compiler_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs the package libtpu; pip install 'jaxdiff\[tpu\]'"):
        open_topology("v5e-16x16")


@pytest.mark.parametrize(
    ("config", "published", "within"),
    [(IMAGENET64, 295.9e6, 1e-3), (IMAGENET64_XL, 675e6, 5e-3)],
    ids=["ADM, table of EDM", "DiT-XL/2"],
)
def test_the_presets_have_the_published_number_of_parameters(config, published, within):
    fields = {"image": Field("picture", (64, 64, 3), "uint8"), "label": Field("label", (), "int32", 1000)}
    bound = config.model.bind(fields, NOTHING["model"])
    params = jax.eval_shape(bound.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == pytest.approx(published, rel=within)


def test_the_two_imagenet_presets_differ_in_network_and_optimizer_only():
    model = dataclasses.replace(IMAGENET64_XL.model, network=IMAGENET64.model.network)
    assert dataclasses.replace(IMAGENET64_XL, model=model, optimizer=IMAGENET64.optimizer) == IMAGENET64
