"""The names, in a run directory, of the files that the logger writes."""

METRICS = "metrics.jsonl"
SAMPLES = "samples"
WANDB_ID = "wandb_id"
