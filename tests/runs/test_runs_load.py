"""A run as a model: the average that was asked for, its denoiser, and refusals in one line."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_files import final_state
from run_settings import TOY

import jaxdiff as jd
from jaxdiff.networks.module import Spec
from jaxdiff.parametrizations import Estimate
from jaxdiff.runs.directory import Run, create_run, write_config
from jaxdiff.runs.load import load_at


def test_load_takes_the_average_and_not_the_last_parameters(toy):
    _, saved = final_state(toy)
    averaged, raw = jd.load(toy), jd.load(toy, ema=None)
    for part, model in (("['ema']['ema']", averaged), ("['params']", raw)):
        leaves = jax.tree_util.tree_leaves_with_path(model.params)
        assert len(leaves) == sum(name.startswith(part) for name in saved)
        for path, leaf in leaves:
            np.testing.assert_array_equal(leaf, saved[part + jax.tree_util.keystr(path)])
    assert any(
        not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (averaged.params, raw.params)), strict=True)
    )
    assert (averaged.shape, averaged.sampling) == ((2,), TOY.sample)
    assert averaged.bound.settings == TOY.model
    assert averaged.bound.fields["label"].names[3] == "gaussians 3"
    # A program compiled for one model serves the other.
    assert jax.tree.structure(averaged) == jax.tree.structure(raw)
    assert hash(averaged.bound) == hash(raw.bound)
    earlier = jd.load(toy, step=160)
    assert not np.array_equal(*(jax.tree.leaves(model.params)[0] for model in (averaged, earlier)))
    assert [load_at(toy, step=step)[0] for step in (None, 160)] == [210, 160]


def test_the_denoiser_is_the_networks_answer_with_its_label_and_guidance(toy):
    """By hand: the flow's velocity is eps - x0, so that x0 = x - t F and eps = x + (1 - t) F."""
    model = jd.load(toy)
    x, t = jax.random.normal(jax.random.key(0), (5, 2)), jnp.linspace(0.2, 0.9, 5)
    labels = np.array([0, 7, 3, 3, 1])
    apply = jax.jit(TOY.model.network.given({"label": Spec("class", (), 8)}).apply)

    def by_hand(cond):
        time = model.parametrization.time_input(model.process, t)
        output = apply(model.params["model"], x, time, {"label": jnp.asarray(cond)})
        return Estimate(x - t[:, None] * output, x + (1 - t)[:, None] * output)

    null = by_hand(np.full(5, 8))
    cond = by_hand(labels)
    guided = jax.tree.map(lambda u, c: u + 2.5 * (c - u), null, cond)
    cases = [
        (model.denoiser(), null),
        (model.denoiser(guidance=0.0), null),
        (model.denoiser(label=labels), cond),
        (model.denoiser(label=3), by_hand(np.full(5, 3))),
        (model.denoiser(label="gaussians 3"), by_hand(np.full(5, 3))),
        (model.denoiser(label=labels, guidance=0.0), null),
        (model.denoiser(label=labels, guidance=2.5), guided),
    ]
    assert not np.allclose(null.x0, cond.x0, atol=1e-3)
    called = jax.jit(lambda denoiser: denoiser(x, t))
    for denoiser, expected in cases:
        found = called(denoiser)
        np.testing.assert_allclose(found.x0, expected.x0, atol=1e-5)
        np.testing.assert_allclose(found.eps, expected.eps, atol=1e-5)
    with pytest.raises(ValueError, match="number of values of label = 3; allowed are 1 and 5, one for each example"):
        model.denoiser(label=labels[:3], guidance=2.5)(x, t)


def test_a_step_that_is_no_integer_is_told_apart_from_one(toy):
    assert load_at(toy, step=np.int64(160))[0] == 160
    for step, shown in (("160", "'160'"), (160.0, "160.0"), (7, "7")):
        with pytest.raises(ValueError, match=rf"has no checkpoint of step {shown}; there are: .*160, .*210"):
            load_at(toy, step=step)
    with pytest.raises(ValueError, match=r"ema = 0\.25 needs snapshots"):
        load_at(toy, ema=np.float32(0.25))


def test_a_run_that_cannot_be_loaded_is_refused_in_one_line(toy, tmp_path):
    saved = json.loads((toy / "config.json").read_text())

    def changed(name, **settings):
        copy = json.loads(json.dumps(saved))
        for path, value in settings.items():
            *parents, last = path.split("__")
            place = copy
            for parent in parents:
                place = place[parent]
            place[last] = value
        write_config(create_run(tmp_path / name), copy)
        return tmp_path / name

    elsewhere = {**saved["config"]["data"], "kind": "nowhere.mine:Mine"}
    old = {"config": {"data": {"name": "digits"}, "network": {}}, "data": {"shape": [8, 8, 1]}}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(json.dumps(old))
    cases = [
        (tmp_path / "none", {}, "there is no such directory"),
        (tmp_path, {}, "holds no config"),
        (tmp_path / "old", {}, r"config\.json: is of an older version; .*train the run again"),
        (
            changed("newer", config__train__ema_half_lifes=3),
            {},
            r"config\.json: train\.ema_half_lifes is unknown; .*did you mean 'ema_half_life'\?",
        ),
        (changed("unset", config__data={"kind": "Folder"}), {}, r"config\.json: data\.path is missing"),
        (changed("unfit", config__parallel__accumulate=5), {}, r"config\.json: parallel\.accumulate = 5"),
        (
            changed("mine", config__data=elsewhere, imports=["nowhere.mine"]),
            {},
            r"config\.json: data\.kind = 'nowhere\.mine:Mine': .*is not imported.*was made with nowhere\.mine: --import",
        ),
        (changed("factless", data={}), {}, r"config\.json: data: has not exactly the entries 'fields'"),
        (changed("placeless", places=None), {}, r"config\.json: places = None; allowed are mappings"),
        (changed("importless", imports={"a": 1}), {}, r"config\.json: imports = {'a': 1}; allowed are lists"),
        (changed("null", config__model__network=None), {}, r"config\.json: model\.network = None; allowed are objects"),
        (
            changed("fieldless", data__fields={}),
            {},
            r"config\.json: model\.field = 'x'; allowed are fields of the data",
        ),
        (changed("long", config__data__kind="x" * 10**6), {}, r"config\.json: data\.kind = 'x{299}\.\.\.; allowed are"),
        (changed("fresh"), {}, "has no checkpoint"),
        (toy, {"ema": "slow"}, r"ema = 'slow'; allowed are 'ema'"),
        (toy, {"step": 7}, "160, 200, 210"),
        (toy, {"parts": {"codec": "x"}}, "part = 'codec'; allowed are the parts of the run: none"),
    ]
    for run, options, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            jd.load(run, **options)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model.network.width", 18, r"ema\.ema\.model\S+ has shape \S.* in the checkpoint, \S.* in the template"),
        ("model.network.width", 10**6, r"has shape \S.* in the checkpoint, .*1000000\S* in the template"),
        ("model.network.width", 10**12, r"config\.json: model\.network\.features = 1000000000000; allowed are even"),
        ("model.network.num_blocks", 2, "block_1_.* is in the template, but not in the checkpoint"),
        ("model.network.num_blocks", 0, "block_0_.* is in the checkpoint, but not in the template"),
    ],
)
def test_weights_of_another_network_are_refused_before_they_are_read(toy, tmp_path, monkeypatch, path, value, words):
    copy = shutil.copytree(toy, tmp_path / "copy")
    saved = json.loads((copy / "config.json").read_text())
    *parents, last = path.split(".")
    place = saved["config"]
    for parent in parents:
        place = place[parent]
    place[last] = value
    write_config(Run(copy), saved)
    monkeypatch.setattr("jaxdiff.runs.checkpoints.arrays.load", None)
    with pytest.raises(ValueError, match=words):
        jd.load(copy)


@pytest.mark.parametrize("config", ["pipe", "deep", "link"])
def test_a_config_that_never_ends_or_lies_elsewhere_is_not_read(tmp_path, config):
    run = create_run(tmp_path)
    if config == "pipe":
        os.mkfifo(run.config)
    elif config == "link":
        (tmp_path / "elsewhere").write_text("{}")
        run.config.symlink_to(tmp_path / "elsewhere")
    else:
        run.config.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match=r"is not a regular file|is nested deeper|holds no config\.json"):
        jd.load(tmp_path)
