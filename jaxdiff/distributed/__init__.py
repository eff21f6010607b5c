"""One training step on many devices, of one process or of several.

- `sharded`: `jax.jit` over a mesh with the axes `data` and `fsdp`. The batch is sharded over both axes, and the state
  over `fsdp`. A mesh of one device is the plain case.
- `mapped`: `jax.pmap`, with a copy of the state on every device.
- `strategy`: the protocol of both, and the choice of one by name.
- `mesh`: meshes, and the rows of a batch on each device. `shardings`: the axis along which each leaf is sharded.
- `hosts`: several processes as one job. `heartbeat`: finds a lost process. `stopping`: stops all processes after the
  same step. `collectives`: what processes tell each other. `reporting`: errors as one line with an exit status.

All strategies make the same steps: the random draws of an example depend only on its place in the batch.
"""

from jaxdiff.distributed.mapped import Mapped as Mapped
from jaxdiff.distributed.mesh import ROWS as ROWS
from jaxdiff.distributed.mesh import all_devices as all_devices
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
