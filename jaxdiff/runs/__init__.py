"""Runs: from a configuration to a directory on disk, and back to a model.

The store holds a run:
- `config`: settings; `config_checks`: checks whether settings fit each other.
- `facts`: the facts about the data; `parts`: other runs and files of weights that a run needs.
- `directory`: the run directory, at a `place` that Orbax understands; `settings`: its `config.json`.
- `compatibility`: settings that may change on resume.
- `checkpoints/`: train states on disk; `snapshots`: averages of the parameters on disk; `provenance`: code versions.
- `recipe`: from a configuration to the loss, the optimiser and the initial state.
- `load`: from a run directory to a model.

The work uses the store:
- `opened`: the data, opened and placed; `program`: the step, compiled; `validation`: the loss on other examples.
- `loop`: `train(config, run_dir)`; `trainer`: its steps; `window`: their metrics; `archive`: saving while training.
- `restore`: samples of the posterior of a picture, by its `tasks` and `methods`; `learned`: by a model that was trained
  for them.
- `topologies`, `lowering`, `compiled`: programs compiled for a TPU pod without a TPU.
"""
