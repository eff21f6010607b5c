"""Runs: from a configuration to a directory on disk, and back to a denoiser.

The store, which holds a run:
- `config`, `config_json`, `config_checks`: settings; settings as JSON; whether settings fit each other
- `data_spec`: the facts about a data set that a network needs
- `directory`, `compatibility`: the run directory; which settings may change when a run goes on
- `checkpoints/`: train states on disk; `snapshots`: averages of the parameters on disk; `provenance`: versions of the code
- `load`: from a run directory to a denoiser

The work, which uses the store:
- `recipe`, `program`: from a configuration to a pure step; the step compiled for the devices
- `loop`: `train(config, run_dir)`
- `draw`: samples and pictures
- `pod`: programs compiled for a TPU pod that is not there
"""
