"""Training: from a configuration to a run on disk, and back to a denoiser.

- `config`: typed settings, and what they name
- `state`, `step`: the train state and the pure step `(state, batch) -> (state, metrics)`
- `ema`: averages of the parameters
- `optimizers`: Optax chains from settings
- `checkpoints`: Orbax, behind one module
- `runs`, `logs`, `images`: a run directory, its metrics and its pictures
- `load`: a run as research code wants it
- `draw`: pictures from a model
- `loop`: `train(config, run_dir)`
- `command_line`: one-line errors for the scripts
"""
