"""Networks as components: JSON, equality, the kernels that Muon takes, and the length of a vector."""

import dataclasses
import inspect
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxdiff import components, networks, trees
from jaxdiff.networks import (
    BERT,
    EDM2,
    EGNN,
    MLP,
    CLIPText,
    ControlNet,
    ConvAutoencoder,
    DiT,
    Encoder,
    Fourier,
    JiT,
    KLAutoencoder,
    LearnedPositions,
    LoRA,
    MMDiT,
    Rope,
    Sinusoidal,
    T5Encoder,
    TextTransformer,
    TinyAutoencoder,
    TinyDarknet,
    UNet,
)
from jaxdiff.networks.layers.embeddings import TimeEmbedding
from jaxdiff.networks.layers.positions import Positions
from jaxdiff.networks.layers.rotary import RotaryPositions
from jaxdiff.networks.module import Network, Spec

LABEL = {"label": Spec("class", classes=3)}
IDS, MASK = jnp.zeros((1, 3), int), jnp.ones((1, 3), bool)
IMAGE, TIME = jnp.zeros((1, 4, 4, 1)), jnp.zeros(1)
TEXT = {"text": Spec("tokens", (3, 4))}
SAID = {"label": jnp.zeros(1, int), "text": {"values": jnp.zeros((1, 3, 4)), "mask": MASK}}

# Each network with settings of its own, and the arguments of a call. `hidden` are kernels that Muon takes, and `left` are
# all arrays of two or more axes that it leaves.
TIMES = {"conditioning.time_in.kernel", "conditioning.time_out.kernel"}
CONDITIONING = TIMES | {"conditioning.label_table.embedding"}
TEXT_LAYERS = {f"block_0_{name}.kernel" for name in ("attention.qkv", "attention.out", "in", "out")}
CASES = {
    "UNet": SimpleNamespace(
        network=UNet(channels=8, multipliers=(1, 2), num_blocks=1, embedding=Fourier(2.0), dropout=0.1, remat="dots"),
        arguments=(IMAGE, TIME, jnp.zeros(1, int)),
        hidden={
            *(f"down_0_block_0.{name}.kernel" for name in ("conv_in", "embedding", "conv_out")),
            *(f"{name}.kernel" for name in ("down_0_resample", "mid_attention.qkv", "up_0_block_1.conv_out")),
        },
        left={"conv_in.kernel", "conv_out.kernel", *CONDITIONING},
    ),
    "ControlNet": SimpleNamespace(
        network=ControlNet(UNet(channels=8, multipliers=(1, 2), num_blocks=1), hint="label", hint_channels=(4, 8)),
        arguments=(IMAGE, TIME, jnp.zeros((1, 8, 8, 3))),
        hidden={"network.mid_attention.qkv.kernel", "side.mid_attention.qkv.kernel", "side.zero_0.kernel"}
        | {"side.hint_0.kernel", "side.hint_0_resample.kernel", "network.up_0_block_1.conv_out.kernel"},
        left={f"{half}.{name}" for half in ("network", "side") for name in (*TIMES, "conv_in.kernel")}
        | {"network.conv_out.kernel", "side.hint_in.kernel", "side.hint_out.kernel"},
        specs={"label": Spec("planes", (8, 8, 3))},
        change={"hint_channels": (4,)},
    ),
    "MLP": SimpleNamespace(
        network=MLP(width=8, num_blocks=1, embedding=Sinusoidal(cos_first=True)),
        arguments=(jnp.zeros((1, 2)), TIME, jnp.zeros(1, int)),
        hidden={"block_0_in.kernel", "block_0_embedding.kernel", "block_0_out.kernel"},
        left={"dense_in.kernel", "dense_out.kernel", *CONDITIONING},
    ),
    "LoRA": SimpleNamespace(
        network=LoRA(MLP(width=8, num_blocks=1, embedding=Fourier(2.0)), rank=2, alpha=3.0, targets="block_0_in"),
        arguments=(jnp.zeros((1, 2)), TIME, jnp.zeros(1, int)),
        hidden={"adapters.block_0_in.kernel.down", "adapters.block_0_in.kernel.up"},
        left={f"network.{name}.kernel" for name in ("dense_in", "dense_out", "block_0_in", "block_0_out")}
        | {"network.block_0_embedding.kernel", *(f"network.{name}" for name in CONDITIONING)},
        change={"rank": 3},
    ),
    "Encoder": SimpleNamespace(
        network=Encoder(channels=8, multipliers=(1, 2), attention_levels=(1,), features=3),
        arguments=(IMAGE, TIME, jnp.zeros(1, int)),
        hidden={"down_0_block_0.conv_in.kernel", "down_0_resample.shortcut.kernel", "down_1_attention_0.out.kernel"},
        left={"conv_in.kernel", "dense_out.kernel", *CONDITIONING},
    ),
    "ConvAutoencoder": SimpleNamespace(
        network=ConvAutoencoder(channels=8, multipliers=(1, 2), latent_channels=2),
        arguments=(IMAGE,),
        hidden={"encoder.down_0_block_0.conv_in.kernel", "encoder.down_0_resample.kernel"}
        | {"decoder.up_1_block_0.conv_out.kernel", "decoder.up_1_resample.kernel"},
        left={f"{half}.{name}.kernel" for half in ("encoder", "decoder") for name in ("conv_in", "conv_out")},
    ),
    "KLAutoencoder": SimpleNamespace(
        network=KLAutoencoder(channels=8, multipliers=(1, 2), num_blocks=1, latent_channels=2),
        arguments=(jnp.zeros((1, 4, 4, 3)),),
        hidden={"encoder.mid_block_0.conv_in.kernel", "decoder.mid_attention.qkv.kernel"},
        left={f"{half}.{name}.kernel" for half in ("encoder", "decoder") for name in ("conv_in", "conv_out")}
        | {"encoder_out.kernel", "decoder_in.kernel"},
    ),
    "TinyAutoencoder": SimpleNamespace(
        network=TinyAutoencoder(channels=8, num_blocks=1, latent_channels=2),
        arguments=(jnp.zeros((1, 8, 8, 3)),),
        hidden={"encoder.down_0_block_0_conv_0.kernel", "decoder.up_1_resample.kernel"},
        left={f"{half}.{name}.kernel" for half in ("encoder", "decoder") for name in ("conv_in", "conv_out")},
    ),
    "TinyDarknet": SimpleNamespace(
        network=TinyDarknet(),
        arguments=(jnp.zeros((1, 16, 16, 3)),),
        hidden={"conv_1.kernel", "conv_14.kernel"},
        left={"conv_0.kernel", "conv_15.kernel"},
    ),
    "DiT": SimpleNamespace(
        network=DiT(width=8, depth=3, heads=2, rope=Rope(), positions=LearnedPositions((2, 2)), long_skips=True),
        specs=LABEL | TEXT,
        arguments=(IMAGE, TIME, SAID),
        hidden={
            *(f"{stack}.attention.qkv.kernel" for stack in ("in_layers", "mid_layer", "out_layers")),
            *(
                "out_layers.skip.kernel",
                "mid_layer.cross_attention.key_value.kernel",
                "in_layers.feed_forward.in.kernel",
            ),
        },
        left={
            *("patch_in.kernel", "positions", "out.dense.kernel", "out.modulation.dense.kernel"),
            *("context.text.in.kernel", "context.text.out.kernel", *CONDITIONING),
        },
        stacked={"in_layers", "out_layers"},
    ),
    "MMDiT": SimpleNamespace(
        network=MMDiT(width=8, depth=3, heads=2, dual_depth=1, attention="cudnn"),
        specs=LABEL | TEXT,
        arguments=(IMAGE, TIME, SAID),
        hidden={f"{stack}.context_qkv.kernel" for stack in ("dual_layers", "layers", "last_layer")},
        left={
            *("patch_in.kernel", "out.dense.kernel", "out.modulation.dense.kernel", "context.text.kernel"),
            *CONDITIONING,
        },
        stacked={"dual_layers", "layers"},
    ),
    "JiT": SimpleNamespace(
        network=JiT(width=8, depth=2, heads=2, patch=(2,), bottleneck=2, context_start=1),
        arguments=(IMAGE, TIME, jnp.zeros(1, int)),
        hidden={f"{stack}.feed_forward.out.kernel" for stack in ("early_layers", "layers")},
        left={
            *("patch_in.kernel", "bottleneck_in.kernel", "context_positions"),
            *("out.dense.kernel", "out.modulation.dense.kernel", *CONDITIONING),
        },
        stacked={"early_layers", "layers"},
    ),
    "CLIPText": SimpleNamespace(
        network=CLIPText(width=8, depth=1, heads=2, length=5, activation="gelu", projection=3, end_id=None),
        arguments=(IDS, MASK),
        hidden=TEXT_LAYERS,
        left={"token_table.embedding", "positions", "project.kernel"},
    ),
    "T5Encoder": SimpleNamespace(
        network=T5Encoder(width=8, depth=1, heads=2, head_width=3, mlp_width=12),
        arguments=(IDS, MASK),
        hidden=TEXT_LAYERS,
        left={"token_table.embedding", "distance_table.embedding"},
    ),
    "BERT": SimpleNamespace(
        network=BERT(width=8, depth=1, heads=2, length=5, normalise=False),
        arguments=(IDS, MASK),
        hidden=TEXT_LAYERS,
        left={"token_table.embedding", "type_table.embedding", "positions"},
    ),
    "EDM2": SimpleNamespace(
        network=EDM2(channels=4, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), head_channels=4, dropout=0.1),
        arguments=(IMAGE, TIME, jnp.zeros(1, int)),
        hidden={
            *(f"down_0_block_0.{name}.kernel" for name in ("conv_in", "embedding", "conv_out")),
            *("down_1_resample.conv_in.kernel", "mid_block_0.attention.qkv.kernel", "up_0_block_1.skip.kernel"),
        },
        left={"conv_in.kernel", "conv_out.kernel", "conditioning.time_in.kernel", "conditioning.label_table.kernel"},
    ),
    "EGNN": SimpleNamespace(
        network=EGNN(width=8, depth=2, sublayers=1, scale=2.0),
        arguments=({"position": jnp.zeros((1, 3, 3)), "element": jnp.zeros((1, 3, 2))}, TIME, jnp.zeros(1, int)),
        hidden={"layers.message_0.sender.kernel", "layers.move_message.out.kernel", "layers.update_0_in.kernel"},
        left={
            *("layers.message_0.distances.kernel", "layers.move_message.distances.kernel", "layers.gate_0.kernel"),
            *("layers.move.kernel", "dense_in.kernel", "dense_out.kernel", *CONDITIONING),
        },
        stacked={"layers"},
    ),
    "TextTransformer": SimpleNamespace(
        network=TextTransformer(width=8, depth=1, heads=2, length=5),
        arguments=(IDS, MASK),
        hidden=TEXT_LAYERS,
        left={"token_table.embedding", "positions"},
    ),
}


def told(network, name):
    """The network with a condition, if it takes any."""
    return network.given(getattr(CASES[name], "specs", LABEL)) if network.takes else network


def test_the_cases_are_all_networks():
    assert set(CASES) == set(components.kinds_of(Network))
    kinds = set(CASES).union(*(components.kinds_of(base) for base in (TimeEmbedding, Positions, RotaryPositions)))
    assert kinds | {"as_network"} == set(networks.__all__)


@pytest.mark.parametrize("name", CASES)
def test_json_holds_all_settings(name):
    for network in (CASES[name].network, getattr(networks, name)()):
        tree = components.to_json(network)
        assert tree["kind"] == name
        assert "specs" not in tree
        again = components.from_json(Network, tree)
        assert type(again) is type(network)
        assert again == network
        assert components.to_json(again) == tree


def test_json_names_the_embedding():
    tree = {"kind": "MLP", "embedding": {"kind": "Fourier", "scale": 2}}
    assert components.from_json(Network, tree) == MLP(embedding=Fourier(2.0))
    with pytest.raises(
        ValueError, match=r"embedding\.kind = 'Wavelets'; allowed are Fourier, MPFourier, Sinusoidal, and MODULE"
    ):
        components.from_json(Network, {"kind": "MLP", "embedding": {"kind": "Wavelets"}})


@pytest.mark.parametrize("name", CASES)
def test_every_setting_has_a_sentence(name):
    # Python 3.13 removes the indentation of docstrings.
    documented = set(
        re.findall(r"^ {2}(\w+): \S", inspect.cleandoc(getattr(networks, name).__doc__), flags=re.MULTILINE)
    )
    assert set(components.settings_of(getattr(networks, name))) <= documented


@pytest.mark.parametrize("name", CASES)
def test_equal_networks_have_equal_hashes_and_apply(name):
    def make():
        return told(CASES[name].network.clone(), name)

    first, second = make(), make()
    other = first.clone(**getattr(CASES[name], "change", {"dtype": "bfloat16"}))
    assert first is not second
    assert first == second
    assert hash(first) == hash(second)
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert first.apply != other.apply
    if first.specs:
        assert first.apply != CASES[name].network.apply


@pytest.mark.parametrize("name", CASES)
def test_muon_takes_the_hidden_kernels(name):
    case = CASES[name]
    network = told(case.network, name)
    if "attention" in network.__dataclass_fields__:  # others do not run everywhere
        network = network.clone(attention="xla")
    shapes = jax.eval_shape(network.init, jax.random.key(0), *case.arguments)["params"]
    leaves = [(trees.words_of(p), leaf.ndim) for p, leaf in jax.tree_util.tree_leaves_with_path(shapes)]
    assert {words[0] for words, _ in leaves if trees.is_stacked(words)} == getattr(case, "stacked", set())
    matrices = {".".join(words) for words, axes in leaves if axes > 1 + trees.is_stacked(words)}
    taken = {trees.name_of(p) for p, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    taken = {leaf for leaf in taken if re.search(network.hidden, leaf)}
    assert case.hidden <= taken
    assert matrices - taken == case.left
    assert taken <= matrices


def test_only_the_settings_of_the_program_are_free():
    """Whether results are stored, whether layers are a loop, and by which kernel tokens attend."""
    for case in CASES.values():
        settings = {field.name for field in dataclasses.fields(case.network)}
        assert set(case.network.free) == settings & {"remat", "unroll", "attention"}
        if not case.network.free:
            assert case.network.plain() == case.network
    assert UNet(remat="blocks").plain() == UNet()
    assert DiT(remat="blocks").plain() == DiT(remat="none", unroll=True)


def test_the_length_of_a_vector_is_set_once():
    assert MLP().giving(5) == MLP(out_features=5)
    assert Encoder().giving(5) == Encoder(features=5) == Encoder(features=5).giving(5)
    with pytest.raises(ValueError, match="out_features = 4; allowed are None and 5"):
        MLP(out_features=4).giving(5)
    with pytest.raises(ValueError, match="network = 'UNet'; allowed are MLP, Encoder, which can give a vector"):
        UNet().giving(5)
    with pytest.raises(ValueError, match="features = 0; allowed are integers of at least 1"):
        Encoder().giving(0)
