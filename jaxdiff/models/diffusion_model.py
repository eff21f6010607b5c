"""A trained diffusion model, ready to sample from."""

import dataclasses
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.denoisers import Denoiser
from jaxdiff.guidance import Asked, ClassifierFree, Guidance
from jaxdiff.likelihood import continuous_time
from jaxdiff.models.autoencoder import AutoencoderModel
from jaxdiff.models.draw import draw
from jaxdiff.models.sampling import Sampling
from jaxdiff.parametrizations import Parametrization
from jaxdiff.processes import Process, log_snr, on_host, time_of_log_snr

# The largest log-SNR of VDM (Kingma et al. 2021), at which a picture of 8 bits is known but for rounding.
MOST_LOG_SNR = 13.3


@trees.register
@dataclasses.dataclass(frozen=True)
class DiffusionModel:
    """A trained diffusion model and everything that sampling needs. Its weights are leaves.

    Attributes:
      params: the parameters, or an average of them.
      frozen: the frozen models that it needs.
      bound: the model on its data: functions, fields and shapes.
      sampling: how samples are drawn, unless one says otherwise.
    """

    params: PyTree
    frozen: PyTree
    bound: Any = dataclasses.field(metadata={"static": True})
    sampling: Sampling = dataclasses.field(metadata={"static": True})

    @property
    def process(self) -> Process:
        """The process, with the learned numbers if it has any."""
        return self.bound.process(self.params)

    @property
    def parametrization(self) -> Parametrization:
        """The input of the network and the meaning of its output."""
        return self.bound.parametrization

    @property
    def shape(self) -> Any:
        """The shape of one example in the space of the model; a mapping of shapes if there are several fields."""
        shapes = self.bound.shapes
        return shapes[""] if "" in shapes else dict(shapes)

    def in_tiles(self, tile: int) -> Self:
        """The model whose latents are decoded in overlapping tiles of `tile` latents a side, with less memory.

        Raises:
          ValueError: the model has no autoencoder, or `tile` is not a positive integer.
        """
        codec = self.frozen["codec"]
        allowed = "models that work in the latents of an autoencoder"
        require(isinstance(codec, AutoencoderModel), "model", type(self.bound.settings.codec).__name__, allowed)
        return dataclasses.replace(self, frozen={**self.frozen, "codec": codec.in_tiles(tile)})

    def denoiser(self, *, guidance: Guidance | float | None = None, **asked: Any) -> Denoiser:
        """The denoiser of samples in the space of the model: `model.denoiser(label=3, guidance=2.0)`.

        Args:
          guidance: the rule of guidance; a number for the scale of classifier-free guidance; None for no guidance.
          asked: by the name of a condition, one value, or one value per example. Nothing is asked of other conditions.

        Raises:
          ValueError: the model has no such condition, or the condition does not allow the value.
        """
        entries = self.bound.conditioning.ask(asked)
        return self.denoiser_of(self.encode(entries), guidance, bool(asked))

    def encode(self, entries: Any) -> Asked:
        """The encoded conditions of batch entries, as `Conditions.ask` gives them."""
        bound, frozen = self.bound, self.frozen
        return bound.conditioning.asked(
            self.params, frozen["conditions"], entries, lambda pictures: bound.to_model(frozen, pictures)
        )

    def denoiser_of(self, asked: Asked, guidance: Guidance | float | None = None, anything: bool = True) -> Denoiser:
        """The denoiser of encoded conditions.

        Args:
          asked: the conditions.
          guidance: as for `denoiser`.
          anything: whether anything is asked for. If not, guidance has nothing to lead to.
        """
        rule = ClassifierFree(1.0 if guidance is None else guidance) if not isinstance(guidance, Guidance) else guidance
        if not anything and isinstance(rule, ClassifierFree):
            good = rule.scale in (0, 1)
            require(good, "guidance", rule.scale, "0 and 1, since nothing is asked for")
            return self.bound.denoiser(self.params, asked.null)
        guides = self.frozen.get("guidance") if isinstance(self.frozen, dict) else None
        return rule(DenoiserOf(self.params, self.bound), asked, guides)

    def sample(
        self,
        key: Key[Array, ""],
        count: int,
        *,
        sampling: Sampling | None = None,
        batch_size: int = 250,
        mesh: Any = None,
        **asked: Any,
    ) -> Any:
        """Draws samples, in the units of the data: `model.sample(key, 16, label=3)`.

        Args:
          key: a single key. Sample i depends on the key, on i and on the conditions that are asked of it.
          count: the number of samples.
          sampling: the solver, the grid, its steps and the guidance; None for those of the run.
          batch_size: the number of samples that are drawn at a time.
          mesh: the devices over which a batch is spread; None for all devices.
          asked: by the name of a condition, one value, or one value for each sample.

        Returns:
          The samples as a NumPy array `[count, *event]`; a mapping of arrays if there are several fields.
        """
        entries = self.bound.conditioning.ask(asked, count)
        found = draw(
            self, key, entries, sampling or self.sampling, count, anything=bool(asked), batch_size=batch_size, mesh=mesh
        )
        field = self.bound.settings.field
        return found[field] if isinstance(field, str) else found

    def exhibit(self, key: Key[Array, ""], examples: Any, mesh: Any) -> tuple[dict[str, Any], list[str]]:
        """Samples to look at, by field, and their captions.

        Labels go through all classes: pictures of a class stand in a row of ten, other samples take the classes in
        turn. All other conditions take their values from the first examples.

        Args:
          key: a single key.
          examples: a batch of at least one example: the entries of the model, on the host.
          mesh: the devices.
        """
        conditions, shown = self.bound.conditioning, {}
        by_class = [c for c in conditions.by_name.values() if c.channel == "class"]
        from_data = [c for c in conditions.by_name.values() if c.channel != "class" and c.entry in examples]
        classes = min([10, *(c.classes(conditions.fields) for c in by_class)]) if by_class else 0
        shapes = list(self.bound.shapes.values())
        pictures = len(shapes) == 1 and len(shapes[0]) == 3 and not from_data
        count = 2000 if shapes == [(2,)] else 10 * (classes or 10) if pictures else 16
        for condition in by_class:
            labels = np.arange(count) // 10 if pictures else np.arange(count) % classes
            shown[condition.entry] = labels.astype(np.int32)
        for condition in from_data:
            rows = np.asarray(examples[condition.entry])
            shown[condition.entry] = np.resize(rows, (count, *rows.shape[1:]))
        entries = {**conditions.ask({}), **shown}
        found = draw(self, key, entries, self.sampling, count, anything=bool(shown), mesh=mesh)
        return found, conditions.captions(entries) if shown else []

    def latents(self, x: Any) -> PyTree:
        """Data `[n, *event]` in the space of the model; a mapping of fields if there are several."""
        field = self.bound.settings.field
        given = {field: x} if isinstance(field, str) else x
        return self.bound.encoded(self.frozen, {name: jnp.asarray(value) for name, value in given.items()})

    def classify(
        self, key: Key[Array, ""], x: Any, *, condition: str = "label", samples: int = 16
    ) -> Float[np.ndarray, "n classes"]:
        """The probability of each class of examples, by the variational bound on their likelihoods.

        The diffusion classifier: Li et al. 2023 (arXiv 2303.16203), with a uniform prior over the classes. All classes
        are judged with the same noise, from `t_max` down to the log-SNR 13.3 (VDM) if the process goes further.

        Args:
          key: a single key.
          x: examples in the units of the data, `[n, *event]`; a mapping of fields if there are several.
          condition: the name of the condition whose classes are judged. Nothing is asked of other conditions.
          samples: the number of evaluations per example and class.

        Returns:
          Probabilities `[n, classes]`.

        Raises:
          ValueError: the model has no such condition of classes.
        """
        known = self.bound.conditioning.by_name
        judged = [name for name, one in known.items() if one.channel == "class"]
        allowed = f"conditions of classes: {', '.join(judged) or 'none'}"
        require(condition in judged, "condition", condition, allowed)
        process = _with_noise(self.process)
        return np.asarray(_classify(self, key, self.latents(x), process, condition, samples))


@trees.register
@dataclasses.dataclass(frozen=True)
class DenoiserOf:
    """The denoiser of encoded conditions, as a function that is a pytree: its weights are leaves."""

    params: PyTree
    bound: Any = dataclasses.field(metadata={"static": True})

    def __call__(self, cond: PyTree) -> Denoiser:
        """The denoiser of conditions, leaves `[1, ...]` or `[batch, ...]`."""
        made: Denoiser = self.bound.denoiser(self.params, cond)
        return made

    def with_network(self, **settings: Any) -> Self:
        """The same function of a network with the same weights and other settings, such as layers that are left out.

        Raises:
          ValueError: the network has no such setting.
        """
        network = self.bound.network.changed(**settings)
        return dataclasses.replace(self, bound=dataclasses.replace(self.bound, network=network))


def _with_noise(process: Process) -> Process:
    """The process, from the log-SNR 13.3 on. The bound is infinite for a process that begins without any noise."""
    host = on_host(process)
    if log_snr(host, np.float64(host.t_min)) <= MOST_LOG_SNR:
        return process
    return dataclasses.replace(process, t_min=float(time_of_log_snr(host, np.float64(MOST_LOG_SNR))))


@partial(jax.jit, static_argnames=("condition", "samples"))
def _classify(
    model: DiffusionModel, key: Key[Array, ""], z: PyTree, process: Process, condition: str, samples: int
) -> Float[Array, "n classes"]:
    conditions = model.bound.conditioning
    judged = conditions.by_name[condition]

    def bound_of(label: Any) -> Float[Array, " n"]:
        asked = model.encode({**conditions.ask({}), judged.entry: label[None]})
        denoiser = model.bound.denoiser(model.params, asked.cond, process=process)
        return continuous_time(key, denoiser, z, samples=samples).nats

    nats = jax.lax.map(bound_of, jnp.arange(judged.classes(conditions.fields), dtype=jnp.int32))
    return jax.nn.softmax(-nats.T, axis=1)
