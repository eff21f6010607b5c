"""Networks of one's own: a Linen module, an NNX module, or a pair of functions, as networks of a model.

`as_network` adapts all three, each in a file. An adapted network is called as

    network(x, time, NAME=condition, ...)

with `x` `[batch, *event]` or a mapping of such arrays, the time input `[batch]`, and a condition by its name in the
model: a class as int32 `[batch]` (class n, of classes 0 to n - 1, means no class), a vector `[batch, d]`, tokens
`{"values": [batch, n, d], "mask": [batch, n]}`, planes `[batch, *space, c]`. A network with an argument `cond` is given
all conditions in one mapping instead. Three more arguments are given to those that have them: `train` and its opposite
`deterministic`, whether the network is being trained; and `key`, one random key per example, None outside of training.
"""

from typing import Any

import flax.linen as nn
from flax import nnx

from jaxdiff.checks import require
from jaxdiff.networks.module import Network
from jaxdiff.networks.own.base import OwnNetwork
from jaxdiff.networks.own.functions import FunctionsNetwork
from jaxdiff.networks.own.linen_module import LinenNetwork
from jaxdiff.networks.own.nnx_module import NNXNetwork

_ALLOWED = "networks: components of jaxdiff.networks, Linen modules, NNX modules, and pairs of functions (init, apply)"


def as_network(network: Any) -> Any:
    """A network for a model.

    Args:
      network: a component of `jaxdiff.networks`, which is returned as it is; a Linen module; an NNX module, whose
        values are the first parameters; or a pair of functions: `init(key, x, time, ...) -> params`, or
        `init(key) -> params`, and `apply(params, x, time, ...) -> output`.

    Raises:
      TypeError: it is none of these.
    """
    if isinstance(network, Network | OwnNetwork):
        return network
    if isinstance(network, nn.Module):
        return LinenNetwork(network)
    if isinstance(network, nnx.Module):
        return NNXNetwork.of(network)
    pair = isinstance(network, tuple | list) and len(network) == 2 and all(map(callable, network))
    require(pair, "network", network, _ALLOWED, TypeError)
    return FunctionsNetwork(*network)
