"""Training: from a configuration to a run on disk, and back to a denoiser.

What is trained:
- `config`: typed settings, and what they name; `recipe`: their data, pure step and initial state
- `state`, `step`: the train state and the pure step `(state, batch) -> (state, metrics)`
- `optimizers`: Optax chains from settings
- `ema`, `power_ema`: averages of the parameters; those of any width, from snapshots

On devices and hosts:
- `parallel`: strategies, by which the step is spread over devices; `program`: a configuration compiled for them
- `hosts`, `peers`, `stopping`: several processes joined, watched over, and stopped together
- `agreement`: what processes tell each other
- `pod`: what a program would ask of a TPU pod, told by its compiler

On disk:
- `runs`, `identity`: a run directory, and which settings may go on with it
- `checkpoints`, and under it `saving`, `retention`, `arrays`, `leaves`, `meta`, `manifest`, `version`
- `load`: a run as research code wants it
- `logs`, `weights_and_biases`, `images`, `draw`: metrics, and pictures from a model
- `throughput`, `profiling`, `compilation_cache`: rates, traces, compiled programs that stay

`loop` is `train(config, run_dir)`; `command_line` makes one-line errors for the scripts.
"""
