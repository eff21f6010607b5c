"""The E(n)-equivariant graph network: sets of points in space, such as the atoms of molecules."""

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxdiff.checks import one_of, positive, require
from jaxdiff.networks.inputs import Cond, check_input, check_settings, compute_types, read_cond
from jaxdiff.networks.layers.conditioning import Conditioning
from jaxdiff.networks.layers.dense import Dense
from jaxdiff.networks.layers.embeddings import Sinusoidal, TimeEmbedding
from jaxdiff.networks.layers.equivariant import EquivariantLayer
from jaxdiff.networks.layers.stack import stack
from jaxdiff.networks.module import Network
from jaxdiff.networks.remat import Remat, rematerialised


class EGNN(Network):
    """Graph network over all pairs of points, equivariant to E(n) (Hoogeboom et al. 2022, arXiv 2203.17003).

        h_i = W_in features_i + e
        h, y = layers(h, x)
        out = y - x, without its mean over the points    and    W_out h_i

    A rotation, reflection or permutation of the points does the same to the output positions, and leaves the output
    features as they are, in their new order. A translation changes nothing. e is the embedding of time and conditions.
    The output is zero at points that do not exist, and such points change no others. The numbers of the defaults are
    those for QM9.

    Attributes:
      width: the length of the states of the points, and of messages.
      depth: number of layers.
      sublayers: number of updates of the states before the points move, in each layer.
      reach: the largest factor of the difference of two points, in one move.
      scale: the divisor of sums over points.
      position: the entry of the input that holds positions `[batch, n, d]`. All other entries are features.
      mask: the name of a condition of the channel `vector`, one number per point, which is above 0 for points that
        exist. Zeros alone, as for a vector that is left out, mean that all points exist. Empty for no such condition.
      embedding: features of the time input.
      unroll: whether the program holds all layers, and no loop over them.
      remat: the results of layers that are stored for reverse-mode derivatives; see `UNet`.
      dtype: compute type of states and messages, such as `"bfloat16"`; None for float32, or float64 if the input is
        float64. Parameters, positions and the last layer are always float32 or wider.
    """

    takes: ClassVar[tuple[str, ...]] = ("class", "vector")
    free: ClassVar[tuple[str, ...]] = ("unroll", "remat")
    hidden: ClassVar[str] = r"^layers\.(.*message_?\d*\.(receiver|sender|out)|update_\d+_(in|out))\.kernel$"

    width: int = 256
    depth: int = 9
    sublayers: int = 1
    reach: float = 15.0
    scale: float = 1.0
    position: str = "position"
    mask: str = ""
    embedding: TimeEmbedding = Sinusoidal()
    unroll: bool = False
    remat: Remat = "none"
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_settings(self.dtype, depth=self.depth, sublayers=self.sublayers)
        positive("reach", self.reach)
        positive("scale", self.scale)
        one_of("remat", self.remat, get_args(Remat))
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: PyTree,
        time: Float[Array, " batch"] | Float[Array, "batch 2"],
        cond: Cond = None,
        key: Any = None,
    ) -> PyTree:
        """Evaluates the network.

        Args:
          x: positions `[batch, n, d]`; or a mapping of the entry `position`, and of features `[batch, n, k]` or
            `[batch, n]` under any other names. Entries of points that do not exist may hold any numbers.
          time, cond: as for `UNet`, without tokens and planes.
          key: not used, since the network has no dropout.

        Returns:
          The same entries of the same shapes, in float32, or in float64 if the positions are float64. The output of a
          freshly initialised network is zero.

        Raises:
          ValueError: a shape or a condition is not allowed, the mapping has no positions, or `mask` is no condition.
          TypeError: the positions or a vector are not floating-point, or classes are not integers.
        """
        entries = {name: jnp.asarray(leaf) for name, leaf in x.items()} if isinstance(x, Mapping) else None
        if entries is not None:
            require(self.position in entries, "position", self.position, f"entries of x: {', '.join(sorted(entries))}")
        places = jnp.asarray(x) if entries is None else entries[self.position]
        require(places.ndim == 3, "shape of positions", places.shape, "[batch, n, d]")
        time = check_input(places, time)
        wide, dtype = compute_types(places, self.dtype)
        exists, specs, given = self._read(cond, places)
        seen = exists[..., None]

        def centred(x: Array) -> Array:
            x = jnp.where(seen, x, 0)
            return jnp.where(seen, x - x.sum(axis=1, keepdims=True) / seen.sum(axis=1, keepdims=True), 0)

        places = centred(places.astype(wide))
        embed = Conditioning(self.width, self.width, self.embedding, specs, dtype, name="conditioning")
        h = jnp.broadcast_to(embed(time, given)[:, None], (*places.shape[:2], self.width))
        features = {name: entries[name] for name in sorted(entries) if name != self.position} if entries else {}
        for name, leaf in features.items():
            fits = leaf.ndim in (2, 3) and leaf.shape[:2] == places.shape[:2]
            start = f"{places.shape[0]}, {places.shape[1]}"
            require(fits, f"x[{name!r}].shape", leaf.shape, f"({start}) and ({start}, k)")
        if features:
            flat = [leaf.reshape(*places.shape[:2], -1).astype(wide) for leaf in features.values()]
            told = jnp.where(seen, jnp.concatenate(flat, axis=-1), 0)
            h = h + Dense(self.width, dtype=dtype, name="dense_in")(told)

        first = jnp.square(places[:, :, None] - places[:, None]).sum(axis=-1)
        pairs = exists[:, :, None] & exists[:, None] & ~jnp.eye(places.shape[1], dtype=bool)
        layer_class = rematerialised(EquivariantLayer, self.remat, loop=not self.unroll)
        layer = layer_class(self.width, self.sublayers, self.reach, self.scale, dtype, name="layers")

        def body(layer: Any, state: tuple[Array, Array], i: Array, _: None) -> tuple[tuple[Array, Array], None]:
            return layer(*state, first, pairs), None

        h, moved = stack(layer, self.depth, body, (h, places), unroll=self.unroll)[0]
        out = centred(moved - places)
        if entries is None:
            return out
        result = {self.position: out}
        if features:
            zeros = nn.initializers.zeros
            width = sum(part.shape[-1] for part in flat)
            found = jnp.where(seen, Dense(width, dtype=wide, kernel_init=zeros, name="dense_out")(h), 0)
            for (name, leaf), part in zip(features.items(), flat, strict=True):
                own, found = jnp.split(found, [part.shape[-1]], axis=-1)
                result[name] = own.reshape(leaf.shape)
        return result

    def _read(self, cond: Cond, places: Array) -> tuple[Bool[Array, "batch n"], Any, dict[str, Any]]:
        """The points that exist, the specs of the other conditions, and the conditions by name."""
        batch, n = places.shape[:2]
        given = read_cond(cond, self.specs, batch)
        if not self.mask:
            return jnp.ones((batch, n), bool), self.specs, given
        vectors = [name for name, spec in self.specs if spec.channel == "vector"]
        require(self.mask in vectors, "mask", self.mask, f"'' and vectors: {', '.join(vectors) or 'none'}")
        exists = given.pop(self.mask) > 0
        require(exists.shape == (batch, n), f"cond[{self.mask!r}].shape", exists.shape, f"{(batch, n)}")
        exists = exists | ~exists.any(axis=1, keepdims=True)
        return exists, tuple((name, spec) for name, spec in self.specs if name != self.mask), given
