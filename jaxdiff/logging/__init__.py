"""What a run reports while it trains.

- `logger`: metrics and pictures to all writers; a writer that fails never stops training
- `metrics_file`, `tensorboard`, `weights_and_biases`, `progress`: one writer each
- `records`: files that grow by whole records
- `names`: the names of these files in a run directory
- `throughput`: images per second, time spent waiting for data, and the share of the devices' peak
- `profiling`: a trace of chosen steps
"""
