"""Rules as components: JSON, flags, the conditions of a model, and the runs that they name."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guidance import exact_runs
from models.exact import gaussian, loaded
from PIL import Image

import jaxdiff as jd
from jaxdiff import denoisers, guidance, processes, solvers, trees
from jaxdiff.cli import command_line
from jaxdiff.cli import sample as sample_command
from jaxdiff.components import choose, from_json, to_json
from jaxdiff.conditions import Label
from jaxdiff.guidance import (
    APG,
    Autoguidance,
    CFGPlusPlus,
    CFGZeroStar,
    ClassifierFree,
    ClassifierGuidance,
    Composition,
    DynamicThreshold,
    InstructPix2Pix,
    Interval,
    Linear,
    PerturbedAttention,
    Power,
    Rescale,
    RewardGuidance,
    SkipLayer,
    StaticThreshold,
    Term,
)
from jaxdiff.guidance.rewards import mean
from jaxdiff.models import Sampling
from jaxdiff.runs.loop import train

KEY = jax.random.key(0)
PROCESS = processes.vp_cosine()
LINES = {
    "scale 2": ClassifierFree(2.0),
    "scale.kind Linear --guidance.scale.first 3": ClassifierFree(Linear(first=3.0)),
    "negative label=5": ClassifierFree(negative={"label": 5}),
    "negative label=low": ClassifierFree(negative={"label": "low"}),
    "kind APG --guidance.scale 4 --guidance.momentum -0.5": APG(4.0, momentum=-0.5),
    "kind CFGPlusPlus": CFGPlusPlus(0.6),
    "kind CFGZeroStar --guidance.zero-init 0.04": CFGZeroStar(zero_init=0.04),
    "kind InstructPix2Pix --guidance.picture-scale 2": InstructPix2Pix(picture_scale=2.0),
    "kind Interval --guidance.rule.scale 3 --guidance.high 5": Interval(ClassifierFree(3.0), high=5.0),
    "kind Rescale --guidance.rule.kind APG --guidance.prediction x0": Rescale(APG(), prediction="x0"),
    "kind StaticThreshold --guidance.low 0": StaticThreshold(low=0.0),
    "kind DynamicThreshold --guidance.percentile 90": DynamicThreshold(percentile=90.0),
    "kind Autoguidance --guidance.run weak": Autoguidance("weak"),
    "kind PerturbedAttention --guidance.condition-scale 5": PerturbedAttention(condition_scale=5.0),
    "kind SkipLayer --guidance.layers mid_attention mid_block_0": SkipLayer(("mid_attention", "mid_block_0")),
    "kind ClassifierGuidance --guidance.run c --guidance.label 3": ClassifierGuidance("c", label=3),
    "kind RewardGuidance --guidance.reward.kind mean": RewardGuidance(choose(mean)),
    "kind Composition --guidance.terms.0.ask label=5 --guidance.terms.0.scale.kind Power": Composition(
        terms=(Term({"label": 5}, Power()),)
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_flags_make_every_rule_and_json_keeps_it(line):
    made = command_line.parse(Sampling(), f"--guidance.{line}".split())
    assert made.guidance == LINES[line]
    again = from_json(Sampling, json.loads(json.dumps(to_json(made))))
    assert (again, hash(again)) == (made, hash(made))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scale Linear", "--guidance.scale = 'Linear'; allowed are number and --guidance.scale.kind Cosine | Linear"),
        ("scale.first 3", "--guidance.scale.first is unknown, since --guidance.scale is 1.0; allowed are --guidance"),
        ("scale inf", "--guidance.scale = inf; allowed are finite numbers and schedules"),
        ("kind Autoguidance", "--guidance.run is missing; Autoguidance needs it"),
        ("kind APG --guidance.momentum 1", "--guidance.momentum = 1.0; allowed are numbers above -1 and below 1"),
        ("kind APG --guidance.norm 0", "--guidance.norm = 0.0; allowed are numbers above 0"),
        ("kind Interval --guidance.high -1", "--guidance.high = -1.0; allowed are numbers above low = 0.0"),
        ("kind Composition --guidance.terms.0.scale 2", "--guidance.terms.0.ask = {}; allowed are wishes"),
        ("kind DynamicThreshold --guidance.percentile 101", "--guidance.percentile = 101.0"),
    ],
)
def test_wrong_settings_are_one_line(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.parse(Sampling(), f"--guidance.{line}".split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_the_help_shows_that_a_scale_is_a_number_or_a_schedule(capsys):
    with pytest.raises(SystemExit):
        command_line.parse(Sampling(), ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--guidance.scale number or --guidance.scale.kind Cosine | Linear | Power (1.0)" in shown


MEANS = {"low": -1.0, "high": 1.0, "null": 0.2}


def _exact(name):
    return denoisers.gaussian(PROCESS, MEANS[name], 0.5)


# Each rule, and the function of the exact denoisers that it stands for where "high" is asked for.
RULES = {
    "number": (ClassifierFree(2.0), lambda c, u, n: guidance.classifier_free(c, u, 2.0)),
    "schedule": (ClassifierFree(Linear(3.0)), lambda c, u, n: guidance.classifier_free(c, u, Linear(3.0))),
    "negative": (ClassifierFree(2.0, {"label": "low"}), lambda c, u, n: guidance.classifier_free(c, n, 2.0)),
    "apg": (APG(2.0, eta=0.3, norm=0.5), lambda c, u, n: guidance.apg(c, u, 2.0, eta=0.3, norm=0.5)),
    "cfg++": (CFGPlusPlus(0.7, {"label": 0}), lambda c, u, n: guidance.cfg_plus_plus(c, n, 0.7)),
    "zero*": (CFGZeroStar(2.0, 0.7), lambda c, u, n: guidance.cfg_zero_star(c, u, 2.0, zero_init=0.7)),
    "interval": (
        Interval(ClassifierFree(2.0), 0.1, 0.5),
        lambda c, u, n: guidance.interval(guidance.classifier_free(c, u, 2.0), c, 0.1, 0.5),
    ),
    "rescale": (
        Rescale(ClassifierFree(2.0), 0.5, "eps"),
        lambda c, u, n: guidance.rescale(guidance.classifier_free(c, u, 2.0), 0.5, prediction="eps"),
    ),
    "rescale of none": (Rescale(), lambda c, u, n: c),
    "static": (StaticThreshold(low=-0.1, high=0.3), lambda c, u, n: guidance.static_threshold(c, -0.1, 0.3)),
    "dynamic": (
        DynamicThreshold(ClassifierFree(2.0), 50.0, 0.7),
        lambda c, u, n: guidance.dynamic_threshold(guidance.classifier_free(c, u, 2.0), 50.0, 0.7),
    ),
    "reward": (
        RewardGuidance(choose(mean), 3.0, ClassifierFree(2.0)),
        lambda c, u, n: guidance.reward(guidance.classifier_free(c, u, 2.0), mean, 3.0),
    ),
    "composition": (
        Composition(2.0, (Term({"label": "low"}, -0.5),)),
        lambda c, u, n: guidance.product([c, n], u, [2.0, -0.5]),
    ),
}


@pytest.fixture(scope="module")
def model():
    means = tuple(MEANS.values())
    return loaded(gaussian("vp_cosine", means, 0.5, conditions={"label": Label()}))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_its_function_of_the_denoisers_of_a_model(name, model):
    rule, function = RULES[name]
    x = jax.random.normal(KEY, (4, 3))
    found = model.denoiser(label="high", guidance=rule)
    wanted = function(*map(_exact, ("high", "null", "low")))
    for t in (0.15, 0.6):
        chex.assert_trees_all_close(found(x, t), wanted(x, t), rtol=2e-4, atol=2e-5)
    assert denoisers.is_consistent(found) == denoisers.is_consistent(wanted)
    leaves, structure = jax.tree.flatten(found)
    assert structure == jax.tree.structure(model.denoiser(label="low", guidance=rule))
    assert all(isinstance(leaf, jax.Array | float) for leaf in leaves)


def test_samplers_take_every_rule(model):
    """Also rules with a memory, and the pair that is renoised."""
    for rule, solver in ((Interval(Rescale(APG(2.0, momentum=-0.5))), solvers.heun), (CFGPlusPlus(), solvers.renoise)):
        sampling = Sampling(choose(solver), steps=3, guidance=rule)
        found = model.sample(KEY, 5, label=[0, 1, 0, 1, 1], sampling=sampling, batch_size=3)
        assert found.shape == (5, 3)
        assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="denoiser = GuidedDenoiser"):
        model.sample(KEY, 2, label=1, sampling=Sampling(steps=3, guidance=CFGPlusPlus()))


def test_where_nothing_is_asked_only_rules_without_wishes_hold(model):
    x = jax.random.normal(KEY, (4, 3))
    for rule, unasked in (
        (ClassifierFree(3.0), None),
        (Interval(APG(3.0)), None),
        (Rescale(ClassifierFree(3.0)), None),
        (ClassifierGuidance("run"), None),
        (Autoguidance("run"), Autoguidance("run")),
        (ClassifierGuidance("run", label=1, rule=APG(3.0)), ClassifierGuidance("run", label=1)),
        (Interval(StaticThreshold(APG(3.0)), 0.1), Interval(StaticThreshold(), 0.1)),
        (RewardGuidance(choose(mean), 3.0, CFGPlusPlus()), RewardGuidance(choose(mean), 3.0)),
    ):
        assert rule.unasked() == unasked
    sampling = Sampling(steps=3, guidance=StaticThreshold(ClassifierFree(3.0), -0.01, 0.01))
    found = model.sample(KEY, 5, sampling=sampling)
    assert np.abs(found).max() <= 0.01 + 1e-6
    found = model.denoiser(guidance=sampling.guidance.unasked())(x, 0.5).x0
    np.testing.assert_allclose(found, np.clip(_exact("null")(x, 0.5).x0, -0.01, 0.01), atol=1e-5)


def test_rules_that_need_conditions_say_so(model):
    bare = loaded(gaussian("vp_cosine"))
    for rule in (APG(2.0), CFGZeroStar(2.0), CFGPlusPlus(), Composition(2.0)):
        with pytest.raises(ValueError, match=r"allowed are .*since the model has no conditions"):
            bare.denoiser(guidance=rule)
    for rule, message in (
        (ClassifierFree(2.0, {"labl": 1}), "condition = 'labl'; allowed are .*did you mean 'label'"),
        (Composition(1.0, (Term({"label": "mid"}),)), "label = 'mid'; allowed are names of classes: low, high"),
        (Rescale(CFGPlusPlus()), "rule.kind = 'CFGPlusPlus'; allowed are rules with a conditional and another"),
        (Rescale(StaticThreshold(ClassifierFree(2.0))), "rule.kind = 'StaticThreshold'"),
        (Autoguidance("runs/weak"), "run = 'runs/weak'; allowed are runs that were opened with the model: jd.load"),
    ):
        with pytest.raises(ValueError, match=message):
            model.denoiser(label=1, guidance=rule)
    alone = guidance.Asked({"label": jnp.zeros(1, int)}, {"label": jnp.ones(1, int)})
    with pytest.raises(ValueError, match=r"wishes of the rule = .*allowed are none, since nothing encodes them"):
        ClassifierFree(2.0, {"label": 1})(lambda cond: _exact("null"), alone)


def test_settings_that_cannot_be_sampled_are_refused_before_training(model):
    bare = loaded(gaussian("vp_cosine"))
    inner = StaticThreshold(Interval(CFGPlusPlus()))
    for given, rule, message in (
        (model, inner, "sample.solver.kind = 'ddim'; allowed are renoise with StaticThreshold"),
        (model, RewardGuidance(choose(mean), rule=inner), "sample.solver.kind = 'ddim'"),
        (bare, APG(2.0), "sample.guidance.kind = 'APG'; allowed are rules that lead to no conditions"),
        (bare, Rescale(), "sample.guidance.kind = 'Rescale'"),
    ):
        with pytest.raises(ValueError, match=message):
            given.bound.check_sampling(Sampling(guidance=rule))
    model.bound.check_sampling(Sampling(choose(solvers.renoise), guidance=inner))
    bare.bound.check_sampling(Sampling(guidance=StaticThreshold()))


def test_a_class_whose_name_is_a_number_is_the_class_of_this_name(model):
    fields = dict(model.bound.fields)
    field = dataclasses.replace(fields["label"], names=("1", "0"))
    conditions = dataclasses.replace(
        model.bound.conditioning, fields=type(model.bound.fields)(fields | {"label": field})
    )
    assert [int(conditions.wish({"label": label})["label"][0]) for label in (1, "0", 0)] == [0, 1, 1]


# ------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a run of a mixture, a run of a worse one, and a classifier of noisy points."""
    directory = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name in ("STRONG", "WEAK", "JUDGE"):
            train(getattr(exact_runs, name), directory / name.lower())
    return directory


def test_a_classifier_run_guides_to_its_class(place, monkeypatch, capfd):
    """With the exact classifier the samples of a mixture are those of one Gaussian; from the command line too."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    found = {}
    for label, asked in ((3, {}), ("gaussians 3", {}), (None, {"label": 3})):
        model = jd.load("strong", guidance=ClassifierGuidance("judge", label=label))
        found[label] = model.sample(KEY, 200, **asked)
        distance = np.linalg.norm(found[label] - exact_runs.MEANS[3], axis=1)
        assert np.max(distance) < 5 * 0.05
    for label in (3, "gaussians 3"):
        np.testing.assert_allclose(found[label], found[None], atol=1e-5)
    unguided = jd.load("strong").sample(KEY, 200)
    assert np.mean(np.linalg.norm(unguided - exact_runs.MEANS[3], axis=1)) > 0.5

    files = []
    for line in (
        "--guidance.kind ClassifierGuidance --guidance.run judge --ask label=3 --out asked.png",
        f"--guidance.kind ClassifierGuidance --guidance.run {place / 'judge'} --guidance.label 3 --out told.png",
        "--ask label=3 --out plain.png",
    ):
        sample_command.main(["strong", "--count", "30", *line.split()])
        files.append(np.asarray(Image.open(capfd.readouterr().out.strip())))
    x = jd.load("strong", guidance=ClassifierGuidance("judge", label=3)).sample(jax.random.key(0), 30)
    shown = exact_runs.STRONG.data.show({"x": x}, model.bound.fields, [])
    (place / "wanted.png").write_bytes(next(iter(shown.values())))
    wanted = np.asarray(Image.open(place / "wanted.png"))
    assert [np.array_equal(file, wanted) for file in files] == [True, True, False]


def test_a_weak_run_is_asked_for_the_same(place, monkeypatch):
    monkeypatch.chdir(place)
    rule = StaticThreshold(Autoguidance("weak", 3.0), -9.0, 9.0)
    model, strong, weak = jd.load("strong", guidance=rule), jd.load("strong"), jd.load(place / "weak")
    assert trees.equal(model.frozen["guidance"]["weak"], weak)
    x = 0.5 * jax.random.normal(KEY, (4, 2))
    wanted = guidance.autoguidance(strong.denoiser(label=1), weak.denoiser(label=1), 3.0)(x, 0.3)
    chex.assert_trees_all_close(model.denoiser(label=1, guidance=rule)(x, 0.3), wanted, rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.sample(KEY, 3)).all()


def test_runs_that_do_not_guide_are_refused(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    for rule, message in (
        (ClassifierGuidance("weak", label=3), "run = 'weak'; allowed are runs of a Classifier with a process"),
        (ClassifierGuidance("judge", label=8), "label = 8; allowed are classes from 0 to 7 and gaussians 0"),
        (
            ClassifierGuidance("judge", condition="text"),
            "condition = 'text'; allowed are names of conditions of classes",
        ),
        (Autoguidance("judge"), "run = 'judge'; allowed are runs of a model that is sampled"),
    ):
        with pytest.raises(ValueError, match=message):
            jd.load("strong", guidance=rule).sample(KEY, 2, label=1)
    rule = ClassifierGuidance("judge", label=3)
    model = jd.load("strong", guidance=rule)
    judge = model.frozen["guidance"]["judge"]
    for process, message in (
        (None, "run = 'judge'; allowed are runs of a Classifier with a process, which knows noisy"),
        (choose(processes.flow), "process of the classifier = Flow.*allowed are that of the model, VPCosine"),
    ):
        bound = dataclasses.replace(judge.bound, settings=dataclasses.replace(judge.bound.settings, process=process))
        other = {**model.frozen, "guidance": {"judge": dataclasses.replace(judge, bound=bound)}}
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(model, frozen=other).denoiser(guidance=rule)
    with pytest.raises(ValueError, match=r"sample.guidance.run = .*allowed are files and run directories that exist"):
        jd.load("strong", guidance=Autoguidance("absent"))
    with pytest.raises(SystemExit):
        sample_command.main(["strong", "--guidance.kind", "Autoguidance", "--guidance.run", "judge"])
    assert capfd.readouterr().err == "error: run = 'judge'; allowed are runs of a model that is sampled\n"
    assert not (place / "samples.png").exists()


def test_a_run_keeps_the_place_and_the_checksum_of_its_guide(place, tmp_path, monkeypatch):
    """Another guide of the command line has neither; another scale has both."""
    monkeypatch.chdir(place)
    config = dataclasses.replace(exact_runs.STRONG, sample=Sampling(steps=3, guidance=Autoguidance("weak")))
    train(config, tmp_path / "guided")
    monkeypatch.chdir(tmp_path)
    for rule in (None, Autoguidance("weak", 4.0), Autoguidance(str(place / "strong")), ClassifierFree()):
        model = jd.load("guided", guidance=rule)
        assert model.sampling.guidance == (rule or config.sample.guidance)
    (place / "weak").rename(place / "moved")
    try:
        for rule in (None, Autoguidance("weak", 4.0)):
            with pytest.raises(
                ValueError, match=r"sample.guidance.run = .*if it has moved, name its place with --part"
            ):
                jd.load("guided", guidance=rule)
            jd.load("guided", guidance=rule, parts={"run": place / "moved"})
            with pytest.raises(ValueError, match="its weights are not those that the run was trained with"):
                jd.load("guided", guidance=rule, parts={"run": place / "judge"})
    finally:
        (place / "moved").rename(place / "weak")
