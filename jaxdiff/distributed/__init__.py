"""Strategies: the one step, spread over the devices of one process or of many.

- `sharded`: `jax.jit` over a mesh with the axes `data` and `fsdp`; the batch is spread over both, and the state over
  `fsdp`. A mesh of one device is the plain case. `shardings`: which axis of a leaf is spread
- `mapped`: `jax.pmap`, a copy of the state on every device
- `strategy`: what both are to a trainer; `mesh`: devices, and the rows of a batch on them

Both make the same steps: what an example draws depends on its place in the batch only, wherever it lies.
"""

from jaxdiff.distributed.mapped import Mapped as Mapped
from jaxdiff.distributed.mesh import ROWS as ROWS
from jaxdiff.distributed.mesh import check_batch as check_batch
from jaxdiff.distributed.mesh import make_mesh as make_mesh
from jaxdiff.distributed.mesh import place_rows as place_rows
from jaxdiff.distributed.mesh import process_rows as process_rows
from jaxdiff.distributed.sharded import Sharded as Sharded
from jaxdiff.distributed.shardings import check_overrides as check_overrides
from jaxdiff.distributed.shardings import sharded_axis as sharded_axis
from jaxdiff.distributed.shardings import state_shardings as state_shardings
from jaxdiff.distributed.strategy import Strategy as Strategy
from jaxdiff.distributed.strategy import make_strategy as make_strategy
