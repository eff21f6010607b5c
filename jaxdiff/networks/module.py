"""The base class of the networks: a component whose `apply` is compared by value, and which is told conditions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import flax.linen as nn
from jaxtyping import PyTree

from jaxdiff.checks import integer, message, one_of, require
from jaxdiff.components import Component, kinds_of

Channel = Literal["class", "vector", "tokens", "planes"]
_SHAPES = {
    "class": ((0,), "()"),
    "vector": ((1,), "(d,)"),
    "tokens": ((2,), "(n, d)"),
    "planes": ((2, 3, 4), "(*space, c)"),
}

# The layers of `Conditioning` and `JoinedTokens` that belong to no condition.
_RESERVED = ("time_in", "time_out", "second_time_in", "vector_in", "vector_out", "context_norm")


class Spec(NamedTuple):
    """The channel, the shape and the classes of one condition, as a network is told of them.

    Attributes:
      channel: how the values of the condition enter the network.
      shape: the shape of one example: `()` for a class, `(d,)` for a vector, `(n, d)` for tokens, and `(*space, c)` for
        planes.
      classes: the number of classes, 0 for other channels. Class n, of classes 0 to n - 1, is the null class.
    """

    channel: Channel
    shape: tuple[int, ...] = ()
    classes: int = 0


def check_specs(specs: Mapping[str, Spec], takes: tuple[str, ...], kind: str) -> tuple[tuple[str, Spec], ...]:
    """The specs of conditions, checked.

    Args:
      specs: the conditions by name.
      takes: the channels that the network takes.
      kind: the name of the network.

    Raises:
      ValueError: the network does not take a channel, or a spec does not fit its channel.
    """
    for name, spec in specs.items():
        path = f"conditions.{name}"
        usable = name.isidentifier() and name not in _RESERVED
        require(usable, "name of a condition", name, f"identifiers other than {', '.join(_RESERVED)}")
        one_of(f"{path}.channel", spec.channel, _SHAPES)
        if spec.channel not in takes:
            # The channel is a word of the house and not text of the user, so it has no quotes.
            taken = f"{', '.join(takes) or 'none'}: the channels of {kind}"
            raise ValueError(f"{path} = {spec.channel}; allowed are {taken}")
        ranks, shapes = _SHAPES[spec.channel]
        require(len(spec.shape) in ranks, f"{path}.shape", spec.shape, shapes)
        least, most = (1, None) if spec.channel == "class" else (0, 0)
        integer(f"{path}.classes", spec.classes, least, most)
    return tuple((name, Spec(s.channel, tuple(s.shape), s.classes)) for name, s in specs.items())


@dataclasses.dataclass(frozen=True)
class Apply:
    """The function `module.apply`. Modules with equal fields have equal functions with equal hashes."""

    module: nn.Module

    def __call__(self, variables: Any, *args: Any, method: Any = None, **kwargs: Any) -> Any:
        """Calls `flax.linen.Module.apply`. `method` is the name of the method to call, None for `__call__`."""
        return nn.Module.apply(self.module, variables, *args, method=method, **kwargs)

    @property
    def network(self) -> nn.Module:
        """The module, under the name that all functions of a network have for it."""
        return self.module


class Network(nn.Module, Component):
    """The base class of networks.

    Python compares bound methods by the identity of their object. `jax.jit` compares static arguments, such as the
    `apply` of a denoiser, to find a compiled function. With bound methods, `jax.jit` would compile again for a second
    network with equal fields.

    Attributes:
      takes: the channels of the conditions that the network can be told.
      gives: the output. `"example"`: an array like the input. `"vector"`: `[batch, features]`. `"autoencoder"`: an
        array like the input, made by the methods `encode` and `decode`. `"tokens"`: a vector per token, and a mask.
      output_length: the name of the setting that is the length of a vector output; empty for a network without one.
      hidden: a regular expression for the names of the kernels that Muon takes. A name is the path inside "params",
        with dots. The kernels of the first layer, the last layer and the conditions are left to AdamW.
      trained: a regular expression for the names of the parameters that are trained. All others are frozen. It is empty
        if all are trained.
      specs: the conditions that the network is told, with their names. `given` sets them.
    """

    home: ClassVar[str] = "jaxdiff.networks"
    takes: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[Literal["example", "vector", "autoencoder", "tokens"]] = "example"
    output_length: ClassVar[str] = ""
    hidden: ClassVar[str] = r"^(?!(conv_in|dense_in|conditioning|conv_out|dense_out)\.).+\.kernel$"
    trained: ClassVar[str] = ""
    specs: tuple[tuple[str, Spec], ...] = dataclasses.field(default=(), kw_only=True, metadata={"setting": False})

    @property
    def apply(self) -> Apply:
        """`flax.linen.Module.apply`, compared by the fields of the module."""
        return Apply(self)

    @property
    def forward_mode(self) -> bool:
        """Whether the network has forward-mode derivatives. Fused kernels of attention have none."""
        return getattr(self, "attention", "xla") == "xla"

    def given(self, specs: Mapping[str, Spec]) -> Self:
        """The network that is told these conditions.

        Args:
          specs: the conditions by name. The names become names of parameters.

        Raises:
          ValueError: the network does not take a channel, or a spec does not fit its channel.
        """
        return self.clone(specs=check_specs(specs, self.takes, type(self).__name__))

    def can_be_told(self, name: str, channel: str) -> bool:
        """Whether the network takes a condition of this channel, whatever its name."""
        return channel in self.takes

    def giving(self, features: int) -> Self:
        """The network with an output `[batch, features]`, for classifiers and embeddings.

        For an autoencoder, `features` is the number of channels of the data.

        Raises:
          ValueError: the network gives no vector, or its settings ask for another length.
        """
        integer("features", features)
        if not self.output_length:
            able = [name for name, kind in kinds_of(Network).items() if kind.output_length]
            raise ValueError(message("network", type(self).__name__, f"{', '.join(able)}, which can give a vector"))
        length = getattr(self, self.output_length)
        require(length in (None, features), self.output_length, length, f"None and {features}, which the model needs")
        change: dict[str, Any] = {self.output_length: features}
        return self.clone(**change)

    def changed(self, **settings: Any) -> Self:
        """The network with other settings. A network that only wraps another one passes them on.

        Raises:
          ValueError: the network has no such setting.
        """
        kind = type(self).__name__
        for name, value in settings.items():
            known = name in self.__dataclass_fields__
            require(known, f"setting {name}", value, f"those of networks that have it, and {kind} has not")
        return self.clone(**settings)

    def start(self, variables: PyTree, trained: PyTree) -> PyTree:
        """The variables to begin with, of fresh ones and those of a trained network: those of the trained network.

        A network that holds another one puts them in its place.
        """
        return trained

    def evaluate(
        self, variables: Any, x: PyTree, time: Any, cond: Any = None, key: Any = None
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """The output, and the collections of variables that the network changed; our networks change none."""
        return self.apply(variables, x, time, cond, key=key), {}

    def project(self, params: PyTree) -> PyTree:
        """The parameters that training goes on with, given those that an optimiser has just updated: `params` itself.

        A network whose parameters have to stay in a set, such as weights of a fixed norm, overrides the method. The
        averages of a run are those of projected parameters.

        Args:
          params: the collection "params" of its variables.
        """
        return params

    def plain(self) -> Self:
        """The network without rematerialisation and loops over layers, for counting operations.

        The counts of a compiler have the operations of a loop once.
        """
        plain: dict[str, Any] = {"remat": "none", "unroll": True}
        return self.clone(**{name: value for name, value in plain.items() if name in self.__dataclass_fields__})

    def quiet(self) -> Self:
        """The network without dropout, whatever keys it is given, for validation."""
        return self.clone(dropout=0.0) if "dropout" in self.__dataclass_fields__ else self
