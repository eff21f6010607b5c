"""Runs: from a configuration to a directory on disk, and back to a denoiser.

The store holds a run:
- `config`: settings; `config_json`: settings as JSON; `config_checks`: checks whether settings fit each other.
- `data_spec`: the facts about a data set that a network needs.
- `directory`: the run directory; `settings`: its `config.json`; `compatibility`: settings that may change on resume.
- `checkpoints/`: train states on disk; `snapshots`: averages of the parameters on disk; `provenance`: code versions.
- `load`: from a run directory to a denoiser.

The work uses the store:
- `recipe`: from a configuration to a pure step; `program`: this step compiled for the devices.
- `loop`: `train(config, run_dir)`; `trainer`: its steps; `window`: their metrics; `archive`: saving while training.
- `draw`: samples and pictures.
- `topologies`, `lowering`, `compiled`: programs compiled for a TPU pod without a TPU.
"""
