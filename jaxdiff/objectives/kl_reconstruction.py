"""The loss of the autoencoders of latent diffusion: reconstruction, a prior of the latents, and sharpness."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxdiff import checks, trees
from jaxdiff.components import Part
from jaxdiff.objectives.objective import Context, Function, Loss, Objective
from jaxdiff.objectives.reconstruction import latent_statistics, moving_statistics


@dataclasses.dataclass(frozen=True)
class KLReconstruction(Objective):
    """The loss of the autoencoders of latent diffusion (Rombach et al. 2022, arXiv 2112.10752, appendix G).

        z = mean + std n,   x' = D(z)
        loss = |x' - x| + kl KL(N(mean, std^2) || N(0, 1)) + perceptual P(x', x) + adversarial (hinge - stop(T)(x'))
        hinge = relu(1 - T(x)) + relu(1 + T(stop(x')))

    The discriminator T of patches is trained in the same step: `stop(T)` has no gradient by its parameters, and
    `stop(x')` none by the autoencoder's. P is the distance of hidden states of Tiny Darknet, with equal weights
    (`perceptual_distance`).

    It asks of the model `posterior`, `decode`, `latent`, `discriminator` and `hidden_states`. It measures the mean and
    the mean square of each channel of the latents in a moving average. It reports `error`, `kl`, `perceptual`, `hinge`
    and `realism`, the mean of T on reconstructions. The parameters of T belong to the objective, so that averages do
    not cover them.

    Attributes:
      error: the mean magnitude of the error, or its mean square.
      kl: the weight of the divergence, which is a mean over the numbers of a latent.
      features: an `.npz` file of the weights of Tiny Darknet for P; None for no P.
      perceptual: the weight of P.
      adversarial: the weight of the discriminator; 0 for none.
      adversarial_from: the step from which the autoencoder sees the discriminator, which is trained from the beginning.
      discriminator_channels: channels of the first level of the discriminator.
      discriminator_levels: levels of the discriminator.
      memory: the number of steps over which the statistics of the latents are averaged; at most a tenth of the steps
        so far.
    """

    error: Literal["square", "magnitude"] = "magnitude"
    kl: float = 1e-6
    features: Part | None = None
    perceptual: float = 1.0
    adversarial: float = 0.0
    adversarial_from: int = 0
    discriminator_channels: int = 64
    discriminator_levels: int = 3
    memory: int = 100

    def __post_init__(self) -> None:
        for name in ("kl", "perceptual", "adversarial"):
            checks.not_negative(name, getattr(self, name))
        checks.integer("adversarial_from", self.adversarial_from, least=0)
        for name in ("discriminator_channels", "discriminator_levels", "memory"):
            checks.integer(name, getattr(self, name))

    def load(self, open: Callable[[str], Any]) -> Any:
        arrays = None if self.features is None else open(self.features)
        good = arrays is None or isinstance(arrays, Mapping)
        checks.require(good, "features", self.features, "files of arrays with the weights of Tiny Darknet")
        return arrays

    def init(self, model: Any, key: Key[Array, ""]) -> PyTree:
        if not self.adversarial:
            return {}
        shape = model.fields[model.settings.field].shape
        return {"discriminator": self._discriminator(model).init(key, jnp.zeros((1, *shape)))}

    def extra(self, model: Any) -> PyTree:
        return latent_statistics(model)

    def _discriminator(self, model: Any) -> Any:
        return model.discriminator(self.discriminator_channels, self.discriminator_levels)

    def make(self, model: Any) -> Function:
        network = type(getattr(model, "network", model)).__name__
        good = getattr(model, "has_posterior", False)
        checks.require(good, "model.network.kind", network, "KLAutoencoder with this objective")

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x = batch["x"]
            mean, log_variance = model.posterior(params, x)
            noise = trees.normal_like(trees.batch_key(key, len(x)).each(0), mean)
            z = mean + jnp.exp(log_variance / 2) * noise
            y = model.decode(params, z)
            axes = tuple(range(1, x.ndim))
            error = trees.mean_square(y - x) if self.error == "square" else jnp.mean(jnp.abs(y - x), axis=axes)
            divergence = jnp.mean((mean**2 + jnp.exp(log_variance) - 1 - log_variance) / 2, axis=axes)
            losses, metrics = error + self.kl * divergence, {"error": error, "kl": divergence}
            if self.features is not None:
                metrics["perceptual"] = perceptual_distance(
                    *(model.hidden_states(context.frozen, part) for part in (y, x))
                )
                losses += self.perceptual * metrics["perceptual"]
            if self.adversarial:
                judge, variables = self._discriminator(model).apply, params["objective"]["discriminator"]
                realism = _mean(judge(jax.lax.stop_gradient(variables), y))
                real, made = (judge(variables, part) for part in (x, jax.lax.stop_gradient(y)))
                hinge = _mean(jax.nn.relu(1 - real)) + _mean(jax.nn.relu(1 + made))
                seen = jnp.where(context.step >= self.adversarial_from, 1.0, 0.0)
                losses += self.adversarial * (hinge - seen * realism)
                metrics |= {"realism": realism, "hinge": hinge}
            return Loss(losses, metrics, moving_statistics(z, context, self.memory))

        return objective


def perceptual_distance(
    states: Sequence[Float[Array, "batch *space channels"]], others: Sequence[Float[Array, "batch *space channels"]]
) -> Float[Array, " batch"]:
    """The distance of the hidden states of two pictures (Zhang et al. 2018, arXiv 1801.03924, equation 1).

    Each state is divided by its length at every place. The squares of the differences are averaged over places and
    added over states.
    """

    def unit(state: Array) -> Array:
        return state * jax.lax.rsqrt(jnp.sum(state**2, axis=-1, keepdims=True) + 1e-10)

    pairs = zip(states, others, strict=True)
    return sum((_mean(jnp.sum((unit(a) - unit(b)) ** 2, axis=-1)) for a, b in pairs), start=jnp.zeros(len(states[0])))


def _mean(values: Array) -> Float[Array, " batch"]:
    return values.reshape(len(values), -1).mean(axis=1)
