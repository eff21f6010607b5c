"""From a configuration and the fields of its data to a training: the loss, the optimiser and the initial state."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import Array, Key, PyTree

from jaxdiff import averages, trees
from jaxdiff.checks import require
from jaxdiff.components import at
from jaxdiff.data import Entry
from jaxdiff.data.fields import Field
from jaxdiff.logging.names import PLACE, RATES
from jaxdiff.models.model import Bound, with_state
from jaxdiff.objectives.objective import Context, Function, Loss
from jaxdiff.runs.config import Config
from jaxdiff.training.optimizers import make_optimizer
from jaxdiff.training.state import State, initial_state
from jaxdiff.training.step import METRICS


@dataclasses.dataclass(frozen=True)
class Training:
    """A configuration on data with known fields, ready to be compiled.

    Attributes:
      config: the configuration.
      entries: the entries of a batch, and how they are read from a record.
      bound: the model on these data.
      objective: the loss, as a pure function of a batch as the data give it.
      plain: the same without rematerialisation, for counting operations.
      quiet: the same without dropout, of units and of conditions, for validation.
      optimizer: the optimiser.
      rules: the rule of each average, by name.
    """

    config: Config
    entries: Mapping[str, Entry]
    bound: Bound
    objective: Function
    plain: Function
    quiet: Function
    optimizer: optax.GradientTransformation
    rules: Mapping[str, averages.Rule]

    def batch(self, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes and types of a batch."""
        return {
            name: jax.ShapeDtypeStruct((size, *entry.spec.shape), entry.spec.dtype)
            for name, entry in self.entries.items()
        }

    def initial(self, frozen: Any, start: PyTree = None) -> State:
        """The state before the first step. It can be traced.

        Args:
          frozen: the frozen models.
          start: parameters to begin with, in the place of random ones; they may lack those of the objective. Those of
            the model may be of a network that the network holds.
        """
        # The generator is fixed. With another default (rbg), `vmap` over keys draws all numbers from the first key.
        init_key, run_key = jax.random.split(jax.random.key(self.config.train.seed, impl="threefry2x32"))
        params, extra = initial_values(self.config, self.bound, init_key, frozen, start)
        return initial_state(params, self.optimizer, run_key, self.rules, extra)


def make_training(config: Config, fields: Mapping[str, Field], frozen: Any) -> Training:
    """Makes the training of a configuration.

    Args:
      config: the configuration.
      fields: the fields of the data, before augmentations.
      frozen: the frozen models, from `load_frozen`, or the shapes of their arrays.

    Raises:
      ValueError, TypeError: the parts of the configuration do not fit each other or the data. The error names the
        setting.
    """
    after, config = _augmented(config, fields), _opened(config, frozen)
    entries = _read(config, fields, after)
    _warn_of_unread(config, fields, after)
    bound = config.model.bind(after, frozen["model"])
    with at("objective"):
        forms = bound, bound.plain(), bound.quiet()
        of_batch = [_of_batch(config, model, config.objective.make(model)) for model in forms]
    settings = config.train
    rules = {"ema": averages.half_life(settings.ema_half_life, settings.batch_size)}
    rules |= {averages.power_name(width): averages.power(width) for width in settings.ema_widths}
    with at("objective"):
        own = config.objective.averages()
    for name, rule in own.items():
        require(name not in rules, "name of an average of the objective", name, f"names other than {', '.join(rules)}")
        rules[name] = rule
    groups = config.objective.groups()
    optimizer = make_optimizer(
        config.optimizer,
        settings.steps,
        hidden=bound.hidden,
        trained=bound.trained if bound.network.trained else None,
        groups=groups,
    )
    objective, plain, quiet = of_batch
    training = Training(config, entries, bound, objective, plain, quiet, optimizer, rules)
    _try(training, frozen)
    return training


def initial_values(
    config: Config, bound: Bound, key: Key[Array, ""], frozen: Any, start: PyTree = None
) -> tuple[dict[str, PyTree], PyTree]:
    """The parameters and the mutable values before the first step. The function can be traced.

    Args:
      config: the configuration.
      bound: its model on its data.
      key: the key of the random parameters.
      frozen, start: as of `Training.initial`.
    """
    params = bound.init(key)
    if start is not None and "model" in start:
        start = {**start, "model": bound.begun(params["model"], start["model"])}
    own = config.objective.init(bound, jax.random.fold_in(key, 1))
    params |= {"objective": own} if jax.tree.leaves(own) else {}
    params = {**params, **(start or {})}
    params = config.objective.start(params, frozen["objective"])
    extra = config.objective.extra(bound)
    if state := bound.state(key):
        extra = {**extra, "network": state}
    return params, extra


def bind(config: Config, fields: Mapping[str, Field], frozen: Any) -> Bound:
    """The model of a configuration on its data, after augmentations.

    Arguments and errors are those of `make_training`.
    """
    after, config = _augmented(config, fields), _opened(config, frozen)
    config.model.entries(after)  # which refuses fields that the data lack
    return config.model.bind(after, frozen["model"])


def load_frozen(config: Config, open: Callable[[str], Any]) -> dict[str, Any]:
    """The frozen models of a configuration: arguments of the step, which are never in checkpoints."""
    return {"model": config.model.load(open), "objective": config.objective.load(open)}


def _opened(config: Config, frozen: Any) -> Config:
    """The configuration whose model knows its frozen models."""
    return dataclasses.replace(config, model=config.model.opened(frozen["model"]))


def _augmented(config: Config, fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """The fields after augmentations."""
    for i, augmentation in enumerate(config.augmentations):
        with at(f"augmentations.{i}"):
            fields = augmentation.fields(fields)
    return fields


def _read(config: Config, fields: Mapping[str, Field], after: Mapping[str, Field]) -> dict[str, Entry]:
    """The entries that are read from records: for the model, and for augmentations that make the others."""
    wanted = config.model.entries(after)
    found = {}
    for name, entry in wanted.items():
        if entry.field in fields:
            # An augmentation may change the type of a field that is read as it is.
            found[name] = entry if entry.read is not None else Entry(entry.field, None, fields[entry.field])
    for augmentation in config.augmentations:
        for name in augmentation.reads:
            if name in fields:
                found[name] = Entry(name, None, fields[name])
    return found


def _warn_of_unread(config: Config, fields: Mapping[str, Field], after: Mapping[str, Field]) -> None:
    """Warns of fields that augmentations add and that neither the model nor another augmentation reads.

    Without its condition, for example, a network that is trained with `augmentations.EDM` draws transformed samples.
    An objective of one's own may read such a field, so that it is no error.
    """
    read = {entry.field for entry in config.model.entries(after).values()}
    read |= {name for augmentation in config.augmentations for name in augmentation.reads}
    for name in [name for name in after if name not in fields and name not in read]:
        kind = {"values": "Vector", "picture": "Planes", "text": "Text", "label": "Label"}.get(after[name].kind)
        hint = f", such as model.conditions.{name} = {kind}(field={name!r})" if kind else ""
        unread = f"augmentations add the field {name!r}, and no condition of the model reads it{hint}"
        warnings.warn(unread, stacklevel=3)


def _of_batch(config: Config, bound: Bound, objective: Function) -> Function:
    """The objective as a function of a batch as the data give it."""

    def loss(params: PyTree, key: Any, batch: Mapping[str, Array], context: Context) -> Loss:
        random = trees.batch_key(key, trees.batch_size(batch))
        params = with_state(bound.held(params), context.extra)
        for i, augmentation in enumerate(config.augmentations):
            batch = augmentation(random.stream(2).each(i), batch)
        prepared = bound.prepare(params, context.frozen["model"], batch, random.stream(1))
        return objective(params, random.stream(0), prepared, context._replace(frozen=context.frozen["objective"]))

    return loss


def _try(training: Training, frozen: Any) -> None:
    """Traces the loss once, so that settings that do not fit each other are refused before anything is written."""

    def loss(frozen: Any, batch: Any) -> Any:
        state = training.initial(frozen)
        context = Context(state.step, state.ema, frozen, state.extra)
        return training.objective(state.params, state.key, batch, context)

    traced = jax.eval_shape(loss, frozen, training.batch(2))
    changes = jax.eval_shape(lambda: training.bound.state(jax.random.key(0, impl="threefry2x32")))
    kind, kept = type(training.config.objective).__name__, (traced.updates or {}).get("network")
    allowed = "objectives that give the new state of the network, such as its batch statistics, as updates['network']"
    require(trees.same_structure(kept or {}, changes), "objective", kind, allowed)
    shape, taken = traced.losses.shape, (*METRICS, *PLACE, *RATES)
    require(shape in ((), (2,)), "shape of the objective's losses", shape, "() and [batch]")
    for name in traced.metrics:
        good = name not in taken and not name.startswith("validation_")
        allowed = f"names other than {', '.join(taken)} and validation_..."
        require(good, "name of a metric of the objective", name, allowed)
