"""What a run tells while it trains.

- `logs`: lines of metrics, TensorBoard, the progress bar, pictures; `weights_and_biases`: the same to that service
- `throughput`: images a second, the time spent waiting for data, the share of the devices' peak
- `profiling`: a trace of chosen steps
"""
