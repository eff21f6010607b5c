"""The names, in a run directory, of the files that the logger writes, and of the numbers in each line of metrics."""

METRICS = "metrics.jsonl"
SAMPLES = "samples"
WANDB_ID = "wandb_id"

PLACE = ("step", "time")
"""The place of a line in the run."""
RATES = ("images_per_second", "data_wait", "mfu")
"""The throughput, of `logging.throughput`."""
