"""Diffusion models: a network that denoises one field, or several fields together."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from jaxdiff import denoisers, parametrizations, processes, trees
from jaxdiff.checks import require
from jaxdiff.codecs import Codec, Pixels
from jaxdiff.components import Choices, Table, at, choose, function_of
from jaxdiff.conditions import Condition
from jaxdiff.data.fields import Field, check_known
from jaxdiff.data.pixels import to_floats
from jaxdiff.data.selection import Entry
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models.conditioned import Conditions
from jaxdiff.models.diffusion_model import DiffusionModel
from jaxdiff.models.model import Bound, Model
from jaxdiff.models.sampling import Sampling
from jaxdiff.networks import UNet, as_network
from jaxdiff.networks.module import Network
from jaxdiff.objectives import Denoising, Hybrid, Variational
from jaxdiff.parametrizations import Parametrization, ParametrizationChoice
from jaxdiff.processes import Process

ProcessChoice = Annotated[Callable[..., Process], Choices("jaxdiff.processes", ("key",))]


@dataclasses.dataclass(frozen=True)
class Diffusion(Model):
    """A diffusion model: a network that estimates data from noisy data, at every noise level.

    Attributes:
      network: the network, which is told the conditions by its channels; one of `jaxdiff.networks` or of your own
        (`networks.as_network`).
      process: the process of `jaxdiff.processes`. The numbers of a `learned` process are trained with the network.
      parametrization: the input of the network and the meaning of its output.
      field: the field that is modelled; or several fields, which the network is given as a mapping.
      codec: the space in which the model works.
      conditions: what the network is told, by name. Samples are asked for by these names.
      learned_variance: whether the network also predicts the variances of ancestral steps (iDDPM). Its output then has
        twice the channels of the data.
    """

    network: Network = dataclasses.field(default_factory=UNet)
    process: ProcessChoice = choose(processes.vp_cosine)
    parametrization: ParametrizationChoice = choose(parametrizations.v)
    field: str | tuple[str, ...] = "image"
    codec: Codec = Pixels()
    conditions: dict[str, Condition] = dataclasses.field(default_factory=Table)
    learned_variance: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", as_network(self.network))
        object.__setattr__(self, "conditions", Table(self.conditions))
        require(self.field, "field", self.field, "a field of the data, or several")

    def objective(self) -> Any:
        if self.learned_variance:
            return Hybrid()
        return Variational() if "key" in inspect.signature(function_of(self.process)).parameters else Denoising()

    def load(self, open: Callable[[str], Any]) -> Any:
        with at("model.codec"):
            codec = self.codec.load(open)
        return {"codec": codec, "conditions": Conditions(self.conditions, Table()).load(open)}

    def opened(self, frozen: Any) -> Self:
        by_name: Mapping[str, Any] = self.conditions
        conditions = {name: c.opened(frozen["conditions"].get(name)) for name, c in by_name.items()}
        return dataclasses.replace(self, conditions=conditions)

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        for name in names_of(self.field):
            check_known(fields, name, "model.field")
            kind = fields[name].kind
            require(kind != "text", "model.field", name, "fields of numbers, and not of text")
        own = {name: Entry(name, None, fields[name]) for name in names_of(self.field)}
        return own | Conditions(self.conditions, Table(fields)).entries()

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> "BoundDiffusion":
        with at("model.process"):
            process = process_of(self.process)
        with at("model.parametrization"):
            parametrization = self.parametrization()
        with at("model"):
            parametrizations.check(process, parametrization)
        bound = BoundDiffusion(self.opened(frozen), Table(fields), self.network)
        raw = {n: jax.ShapeDtypeStruct((1, *fields[n].shape), fields[n].dtype) for n in names_of(self.field)}
        with at("model.codec"):
            x = jax.eval_shape(lambda f, b: bound.encoded(f, b), frozen, raw)
        shapes = shapes_of(x)
        bound = dataclasses.replace(bound, shapes=shapes)
        specs = bound.conditioning.specs(frozen["conditions"], partial(bound.to_model, frozen))
        gives, kind = getattr(self.network, "gives", "example"), type(self.network).__name__
        require(gives == "example", "model.network.kind", kind, "networks whose output is like their input")
        with at("model"):
            network = self.network.given(specs)
        if self.learned_variance:
            with at("model.learned_variance"):
                require(hasattr(network, "out_channels"), "network.kind", type(network).__name__, "networks of images")
                require(len(shapes[""]) == 3, "shape of the data", shapes[""], "[height, width, channels]")
                network = network.changed(out_channels=2 * shapes[""][-1])
        return dataclasses.replace(bound, network=network)


@dataclasses.dataclass(frozen=True)
class BoundDiffusion(Bound):
    """A diffusion model on data whose shapes are known. `Diffusion.bind` makes it.

    Attributes:
      shapes: the shapes of one example in the space of the model, by field; under "" if there is one field.
    """

    settings: Diffusion
    shapes: Table = Table()

    @property
    def conditioning(self) -> Conditions:
        """The conditions on these data."""
        return Conditions(self.settings.conditions, self.fields)

    @property
    def parametrization(self) -> Parametrization:
        """The input of the network and the meaning of its output."""
        return self.settings.parametrization()

    @property
    def apply(self) -> "Apply":
        """The network as a function of the parameters of the run, compared by value."""
        return Apply(self.network)

    def like(self, batch: int) -> PyTree:
        """The shapes of a batch in the space of the model, as the pytree that the network takes."""
        leaves = {name: jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for name, shape in self.shapes.items()}
        return leaves.get("", leaves)

    def process(self, params: PyTree) -> Process:
        """The process: with the numbers in the parameters if it is learned."""
        template = process_of(self.settings.process)
        learned = params.get("process") if isinstance(params, Mapping) else None
        return dataclasses.replace(template, **learned) if learned else template

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        conditions = self.conditioning.init(jax.random.fold_in(key, 1))
        params: dict[str, PyTree] = {"conditions": conditions} if conditions else {}
        params["model"] = {"params": self._variables(key)["params"]}
        if "key" in inspect.signature(function_of(self.settings.process)).parameters:
            process = self.settings.process(key=jax.random.fold_in(key, 2))
            static = {f.name for f in dataclasses.fields(process) if f.metadata.get("static")}
            names = [f.name for f in dataclasses.fields(process) if f.name not in static]
            params["process"] = {name: jnp.asarray(getattr(process, name), jnp.float32) for name in names}
        return params

    def state(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        return {name: values for name, values in self._variables(key).items() if name != "params"}

    def _variables(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        """The first variables of the network."""
        cond = jax.eval_shape(self._null_cond)
        x, cond = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (self.like(1), cond))
        with at("model.network"):
            return dict(self.network.init(key, x, self._first_time(), cond or None))

    def prepare(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], random: trees.BatchKey
    ) -> dict[str, PyTree]:
        x = self.encoded(frozen, batch, random.each(0))
        to_model = partial(self.to_model, frozen)
        cond = self.conditioning.encode(params, frozen["conditions"], batch, random.stream(1), to_model)
        return {"x": x, "cond": cond, "fields": dict(batch)} if cond else {"x": x, "fields": dict(batch)}

    def encoded(self, frozen: Any, batch: Mapping[str, Array], keys: Any = None) -> PyTree:
        """The modelled fields of a batch, in the space of the model."""
        field = self.settings.field
        shown = ("picture", "video")
        x = {n: to_floats(batch[n]) if self.fields[n].kind in shown else batch[n] for n in names_of(field)}
        return self.settings.codec.encode(frozen["codec"], x[field] if isinstance(field, str) else x, keys)

    def to_model(self, frozen: Any, pictures: PyTree) -> PyTree:
        """Pictures in the space of the model, for conditions that are planes."""
        if isinstance(self.settings.field, str):
            return self.settings.codec.encode(frozen["codec"], pictures)
        return pictures

    def decoded(self, frozen: Any, z: PyTree) -> dict[str, PyTree]:
        """Samples in the space of the model as data, by field."""
        x, field = self.settings.codec.decode(frozen["codec"], z), self.settings.field
        return {field: x} if isinstance(field, str) else dict(x)

    def denoiser(
        self, params: PyTree, cond: PyTree = None, *, process: Process | None = None, keys: Any = None
    ) -> Denoiser:
        """The denoiser of encoded conditions.

        Args:
          params: the parameters of the run.
          cond: encoded conditions, leaves `[1, ...]` or `[batch, ...]`; None for a model without conditions.
          process: another process than that of the model.
          keys: one key per example for dropout, inside an objective.
        """
        process = self.process(params) if process is None else process
        apply = self.apply if keys is None else partial(self.apply, key=keys)
        make = denoisers.from_network_with_variance if self.settings.learned_variance else denoisers.from_network
        return make(process, self.parametrization, apply, {"model": params["model"]}, cond or None)

    def quiet(self) -> Self:
        by_name: Mapping[str, Any] = self.settings.conditions
        conditions = Table({name: dataclasses.replace(c, dropout=0.0) for name, c in by_name.items()})
        settings = dataclasses.replace(self.settings, conditions=conditions)
        return dataclasses.replace(super().quiet(), settings=settings)

    def check_sampling(self, sampling: Sampling) -> None:
        # The tableau is made for its errors only. A grid that depends on the denoiser is made when samples are drawn.
        rule, kind = sampling.guidance, type(sampling.guidance).__name__
        if "denoiser" not in sampling.grid_arguments:
            form = sampling.tableau(self.process({})).form
            solver = function_of(sampling.solver).__name__
            require(rule.consistent or form == "renoise", "sample.solver.kind", solver, f"renoise with {kind}")
        if not self.settings.conditions and isinstance(rule, ClassifierFree):
            allowed = "0 and 1, since the model has no conditions"
            require(rule.scale in (0, 1), "sample.guidance.scale", rule.scale, allowed)
        elif not self.settings.conditions:
            allowed = "rules that lead to no conditions, since the model has none"
            require(rule.unasked() is not None, "sample.guidance.kind", kind, allowed)

    def loaded(self, params: PyTree, frozen: Any, extra: Any, sampling: Any) -> DiffusionModel:
        return DiffusionModel(params, frozen, self, sampling)

    def _null_cond(self) -> PyTree:
        """Values of all channels from their specs alone, so that no frozen model is needed."""
        made: dict[str, PyTree] = {}
        for name, spec in self.network.specs:
            if spec.channel == "class":
                made[name] = jnp.zeros(1, jnp.int32)
            elif spec.channel == "tokens":
                values = jnp.zeros((1, *spec.shape))
                made[name] = {"values": values, "mask": jnp.ones(values.shape[:2], bool)}
            else:
                made[name] = jnp.zeros((1, *spec.shape))
        return made

    def _first_time(self) -> Array:
        return jnp.zeros(1)


@dataclasses.dataclass(frozen=True)
class Apply:
    """The function `(params, x, time, cond=None, key=None) -> output` of a network in a run.

    Conditions of one example stand for the whole batch. Functions of equal networks are equal, so that a second model
    of a run is not compiled again.

    Attributes:
      network: a Linen module.
    """

    network: Network

    def __call__(self, params: PyTree, x: PyTree, time: Any, cond: PyTree = None, key: Any = None) -> PyTree:
        """Calls the network."""
        return self.with_state(params, x, time, cond, key)[0]

    def with_state(
        self, params: PyTree, x: PyTree, time: Any, cond: PyTree = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """The output of the network, and what it changed itself in training: the update of `extra["network"]`."""
        told = None if cond is None else trees.broadcast_examples(cond, trees.batch_size(x))
        return self.network.evaluate(params["model"], x, time, told, key)


def names_of(field: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of the modelled fields."""
    return (field,) if isinstance(field, str) else field


def shapes_of(x: PyTree) -> Table:
    """The shapes of one example, by field; under "" if there is one field."""
    fields = x if isinstance(x, Mapping) else {"": x}
    return Table({name: tuple(leaf.shape[1:]) for name, leaf in fields.items()})


def process_of(choice: Any) -> Process:
    """The process of a choice, with its first numbers if it is learned."""
    if "key" in inspect.signature(function_of(choice)).parameters:
        return choice(key=jax.random.key(0, impl="threefry2x32"))
    return choice()
