"""The memory of sampling, before and after what saves it: `python scripts/benchmark/memory.py`.

The U-Net of Stable Diffusion 1 takes four guided steps at 768 x 768 pixels, and its autoencoder decodes 1,024 x 1,024.
The programs are compiled and not run. The compiler says how much memory their arguments and their results between take.
"""

import dataclasses
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import machine

from jaxdiff.cli import command_line
from jaxdiff.models import AutoencoderModel, compressed
from jaxdiff.networks import KLAutoencoder
from jaxdiff.networks.layers import attention
from jaxdiff.networks.module import Spec
from jaxdiff.networks.published import unets

KEY, GB = jax.random.key(0), 1e9
# The compiler's own time, which optimising takes, is not what is measured.
FAST: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The decoder of an autoencoder without a run."""

    network: Any

    def decode(self, params: Any, z: Any) -> Any:
        """The picture of latents."""
        return self.network.apply(params, z, method="decode")


def main() -> None:
    """Compiles and prints a table in Markdown."""
    print(machine.describe())
    print("\n| | weights, GB | between, GB |\n|---|---|---|")
    network = unets.stable_diffusion_1().given({"text": Spec("tokens", (77, 768))})
    x, time = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 96, 96, 4), (2,)))
    text = {"values": jax.ShapeDtypeStruct((2, 77, 768), jnp.float32), "mask": jax.ShapeDtypeStruct((2, 77), bool)}
    params = jax.eval_shape(network.init, KEY, x, time, {"text": text})

    def sample(params: Any, x: Any, time: Any, text: Any) -> Any:
        def step(x: Any, _: None) -> tuple[Any, None]:
            return x - 0.1 * network.apply(params, x, time, {"text": text}), None

        return jax.lax.scan(step, x, None, length=4)[0]

    with mock.patch.object(attention, "_PAIRS", 2**62):
        row("U-Net, attention all at once", sample, params, x, time, text)
    row("U-Net", sample, params, x, time, text)
    for weights in ("bfloat16", "int8"):
        row(f"U-Net, weights of {weights}", sample, small(params, weights), x, time, text)
    autoencoder = KLAutoencoder()
    params = jax.eval_shape(autoencoder.init, KEY, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    model = AutoencoderModel(params, jnp.zeros(4), jnp.ones(4), Decoder(autoencoder))  # type: ignore[arg-type]
    z = jax.ShapeDtypeStruct((1, 128, 128, 4), jnp.float32)
    row("decoder, the whole picture", AutoencoderModel.decode, model, z)
    row("decoder, tiles of 32 latents", AutoencoderModel.decode, model.in_tiles(32), z)


def small(params: Any, weights: Any) -> Any:
    """The shapes of compressed parameters."""
    return jax.eval_shape(lambda params: compressed(params, weights), params)


def row(name: str, function: Any, *arguments: Any) -> None:
    """Compiles a function, and prints a row."""

    def called(*arguments: Any) -> Any:  # a new function, which is traced anew
        return function(*arguments)

    found: Any = jax.jit(called).lower(*arguments).compile(compiler_options=FAST).memory_analysis()
    print(f"| {name} | {found.argument_size_in_bytes / GB:.2f} | {found.temp_size_in_bytes / GB:.2f} |", flush=True)


if __name__ == "__main__":
    command_line.run(main)
