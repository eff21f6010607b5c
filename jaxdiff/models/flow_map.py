"""Flow maps: a network that is told two times, from where and to where it goes along the ODE."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdiff import trees
from jaxdiff.checks import require
from jaxdiff.data.fields import Field
from jaxdiff.denoisers import NetworkDenoiser
from jaxdiff.models.diffusion import Apply, BoundDiffusion, Diffusion
from jaxdiff.models.model import Model
from jaxdiff.processes import Process


@dataclasses.dataclass(frozen=True)
class FlowMap(Diffusion):
    """A flow map X(t, s), which takes `x_t` to `x_s` along the ODE of a diffusion process.

    The network is told both times. Its output at (t, s) stands for a pair of data and noise by the target at t. The
    DDIM step of this pair from t to s ends at X(t, s). At s = t it is a plain denoiser.
    """

    def objective(self) -> Any:
        return Model.objective(self)

    def bind(self, fields: Mapping[str, Field], frozen: Any) -> "BoundFlowMap":
        allowed = "False, since the steps of a flow map have no variances"
        require(not self.learned_variance, "model.learned_variance", self.learned_variance, allowed)
        bound = super().bind(fields, frozen)
        return BoundFlowMap(bound.settings, bound.fields, bound.network, bound.shapes)


@dataclasses.dataclass(frozen=True)
class BoundFlowMap(BoundDiffusion):
    """A flow map on data whose shapes are known. `FlowMap.bind` makes it."""

    @property
    def apply(self) -> "TwoTimes":
        """The network as a function of the parameters of the run. One time per example stands for both times."""
        return TwoTimes(self.network)

    def denoiser(self, params: PyTree, cond: PyTree = None, *, process: Process | None = None, keys: Any = None) -> Any:
        process = self.process(params) if process is None else process
        apply = self.apply if keys is None else partial(self.apply, key=keys)
        return FlowMapDenoiser(process, {"model": params["model"]}, cond or None, self.parametrization, apply)

    def _first_time(self) -> Array:
        return jnp.zeros((1, 2))


@dataclasses.dataclass(frozen=True)
class TwoTimes(Apply):
    """`Apply` for a network that is told two times. At one time it is told this time twice, as a denoiser is."""

    def with_state(
        self, params: PyTree, x: PyTree, time: Any, cond: PyTree = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        return super().with_state(params, x, jnp.stack([time, time], -1) if time.ndim == 1 else time, cond, key)


@trees.register
@dataclasses.dataclass(frozen=True)
class FlowMapDenoiser(NetworkDenoiser):
    """The denoiser of a flow map: a function `(x, t, s=None) -> Estimate`; s is t unless it is given."""

    def time(self, x: PyTree, t: Any, s: Any = None) -> Array:
        """Both time inputs of the network, `[batch, 2]`."""
        return jnp.stack([super().time(x, t), super().time(x, t if s is None else s)], axis=-1)
