"""Classifiers of clean or of noisy examples."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import processes, trees
from jaxdiff.checks import require
from jaxdiff.codecs import Codec, Pixels
from jaxdiff.components import Table, at
from jaxdiff.data.fields import Field, check_known
from jaxdiff.data.pixels import to_floats
from jaxdiff.data.selection import Entry
from jaxdiff.models.diffusion import ProcessChoice
from jaxdiff.models.model import Bound, Model
from jaxdiff.networks import Encoder
from jaxdiff.networks.module import Network
from jaxdiff.objectives import CrossEntropy
from jaxdiff.processes import Process


@dataclasses.dataclass(frozen=True)
class Classifier(Model):
    """A classifier. With a process it classifies noisy examples too, at every noise level, and can guide a sampler.

    Attributes:
      network: a network that gives a vector.
      field: the field that is classified.
      label: the field of the classes.
      process: the process that makes the noise; None for clean examples only.
      codec: the space in which the classifier works: that of the diffusion model that it shall guide.
    """

    network: Network = dataclasses.field(default_factory=Encoder)
    field: str = "image"
    label: str = "label"
    process: ProcessChoice | None = None
    codec: Codec = Pixels()

    def objective(self) -> Any:
        return CrossEntropy()

    def load(self, open: Callable[[str], Any]) -> Any:
        return {"codec": self.codec.load(open)}

    def entries(self, fields: Mapping[str, Field]) -> dict[str, Entry]:
        for setting, name in (("field", self.field), ("label", self.label)):
            check_known(fields, name, f"model.{setting}")
        require(fields[self.label].kind == "label", "model.label", self.label, "fields of labels")
        return {name: Entry(name, None, fields[name]) for name in (self.field, self.label)}

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> "BoundClassifier":
        raw = jax.ShapeDtypeStruct((1, *fields[self.field].shape), fields[self.field].dtype)
        with at("model.codec"):
            x = jax.eval_shape(lambda f, b: self.codec.encode(f["codec"], to_floats(b)), frozen, raw)
        with at("model.network"):
            network = self.network.given({}).giving(fields[self.label].classes)
        return BoundClassifier(self, Table(fields), network, tuple(x.shape[1:]))


@dataclasses.dataclass(frozen=True)
class BoundClassifier(Bound):
    """A classifier on data whose shapes are known. `Classifier.bind` makes it.

    Attributes:
      shape: the shape of one example in the space of the model.
    """

    settings: Classifier
    shape: tuple[int, ...]

    @property
    def process(self) -> Process | None:
        """The process of the noise; None for a classifier of clean examples."""
        return None if self.settings.process is None else self.settings.process()

    def init(self, key: Key[Array, ""]) -> dict[str, PyTree]:
        with at("model.network"):
            return {"model": self.network.init(key, jnp.zeros((1, *self.shape)), jnp.zeros(1))}

    def prepare(
        self, params: PyTree, frozen: Any, batch: Mapping[str, Array], random: trees.BatchKey
    ) -> dict[str, PyTree]:
        return {
            "x": self.encoded(frozen, batch[self.settings.field], random.each(0)),
            "label": batch[self.settings.label],
        }

    def encoded(self, frozen: Any, x: Any, keys: Any = None) -> Array:
        """Examples in the space of the model."""
        return self.settings.codec.encode(frozen["codec"], to_floats(x), keys)

    def logits(self, params: PyTree, x: Array, t: Any = None, keys: Any = None) -> Float[Array, "batch classes"]:
        """The logits of examples in the space of the model.

        Args:
          params: the parameters of the run.
          x: `[batch, *event]`, noisy at time t.
          t: a scalar or `[batch]`; None for clean examples.
          keys: one key per example for dropout.
        """
        process = self.process
        if t is None or process is None:
            time = jnp.zeros(len(x))
        else:
            # The input has the scale of the data at every noise level.
            t = jnp.asarray(t)
            x = trees.lincomb((1 / jnp.sqrt(process.alpha(t) ** 2 + process.sigma(t) ** 2),), (x,))
            time = trees.per_example(process.time_input(t), x)
        return self.network.apply(params["model"], x, time, None, key=keys)

    def loaded(self, params: PyTree, frozen: Any, extra: Any, sampling: Any) -> "ClassifierModel":
        return ClassifierModel(params, frozen, self)


@trees.register
@dataclasses.dataclass(frozen=True)
class ClassifierModel:
    """A trained classifier. Its weights are leaves.

    Attributes:
      params: the parameters, or an average of them.
      frozen: the frozen models that it needs.
      bound: the model on its data: functions, fields and shapes.
    """

    params: PyTree
    frozen: PyTree
    bound: BoundClassifier = dataclasses.field(metadata={"static": True})

    def log_probability(self, x: Array, t: Any = None) -> Float[Array, "batch classes"]:
        """The log-probability `log p(y | x_t)` of each class, which is differentiable.

        Args:
          x: examples in the space of the model, `[batch, *event]`, noisy at time t.
          t: a scalar or `[batch]`; None for clean examples.
        """
        return jax.nn.log_softmax(self.bound.logits(self.params, x, t))

    def classify(self, x: Any) -> Float[np.ndarray, "n classes"]:
        """The probability of each class of clean examples in the units of the data, `[n, *event]`."""
        found = []
        for start in range(0, len(x), 250):
            found.append(np.asarray(_classify(self, jnp.asarray(x[start : start + 250]))))
        return np.concatenate(found)


@jax.jit
def _classify(model: ClassifierModel, x: Array) -> Array:
    z = model.bound.encoded(model.frozen, x)
    process = model.bound.process
    return jnp.exp(model.log_probability(z, None if process is None else processes.on_host(process).t_min))
