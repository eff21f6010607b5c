"""How tests compile: quickly, or as users do.

Compilation takes two thirds of the suite's time. Tests and the processes that they start therefore compile without LLVM's
optimisations, in one thread, and with the older of the two code generators that XLA has for fusions, which needs half of
the time of the newer one. XLA's own optimisations (fusion, algebra) stay on. The studies compile as users do.
"""

import functools
import os

import jax

# JAX 0.12 has the newer generator alone, and a flag that XLA does not know ends the process.
OLDER_GENERATOR = jax.__version_info__[:2] == (0, 10)
FLAGS = "--xla_cpu_parallel_codegen_split_count=1" + OLDER_GENERATOR * " --xla_cpu_use_fusion_emitters=false"


def compile_quickly():
    """Sets the compiler of this process, and of the processes that it starts. JAX must not have compiled anything yet."""
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    given = os.environ.get("XLA_FLAGS", "")
    if FLAGS not in given:  # a worker inherits the flags
        os.environ["XLA_FLAGS"] = f"{given} {FLAGS}".strip()


# `jax.jit` with the settings of users, for tests that compare two programs bit by bit.
optimised_jit = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    | ({"xla_cpu_use_fusion_emitters": True} if OLDER_GENERATOR else {}),
)
