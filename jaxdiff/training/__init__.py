"""Training: from a configuration to a run on disk, and back to a denoiser.

What is trained:
- `config`: typed settings, and what they name; `recipe`: their data, pure step and initial state
- `state`, `step`: the train state and the pure step `(state, batch) -> (state, metrics)`
- `optimizers`: Optax chains from settings
- `ema`, `power_ema`: averages of the parameters; those of any width, from snapshots of a few

On devices and hosts:
- `parallel/`: strategies, by which the step is spread over devices; `program`: a configuration compiled for them
- `hosts`, `peers`, `stopping`: several processes joined, watched over, and stopped together
- `agreement`: what processes tell each other
- `compilation_cache`: compiled programs that stay; `pod`: what one would ask of a TPU pod, told by its compiler
- `flops`: how much a function asks for

On disk:
- `runs`, `identity`: a run directory, and which settings may go on with it
- `checkpoints/`: states and where they are in the data, whole or not there; `averages`: a run's snapshots
- `load`: a run as research code wants it; `draw`, `images`: pictures from it
- `observation/`: metrics, rates and traces
- `files`: what all of them are written by

`loop` is `train(config, run_dir)`; `command_line` makes one-line errors for the scripts.
"""
