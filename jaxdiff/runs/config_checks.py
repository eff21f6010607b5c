"""Checks of a whole configuration: settings that are valid alone may not fit each other."""

from jaxdiff.checks import require
from jaxdiff.components import Choice, from_json, to_json, walk
from jaxdiff.runs.config import Config


def check(config: Config) -> None:
    """Checks that the settings of `config` are valid together.

    The model checks its own parts when it is bound to data.

    Raises:
      ValueError: one line that names a setting, its value and the values that are allowed.
    """
    to_json(config)  # which refuses values that `config.json` cannot hold
    for path, hint, value, _ in walk(config, Config):
        if isinstance(value, Choice):  # a function that could not be read from `config.json` is refused here
            from_json(hint, value, path.removesuffix(".kind"))
    train, parallel, profile = config.train, config.parallel, config.log.profile
    allowed = f"divisors of train.batch_size = {train.batch_size}"
    require(train.batch_size % parallel.accumulate == 0, "parallel.accumulate", parallel.accumulate, allowed)
    for name in ("steps", "log_every", "sample_every", "checkpoint_every", "snapshot_every", "validate_every"):
        every = getattr(train, name)
        allowed = f"multiples of parallel.steps_per_call = {parallel.steps_per_call}"
        require(every % parallel.steps_per_call == 0, f"train.{name}", every, allowed)
    good = profile is None or profile[0] <= train.steps
    require(good, "log.profile", profile, f"steps up to train.steps = {train.steps}")
    has_examples = bool(train.held_out) or config.validation is not None
    require(
        not train.validate_every or has_examples,
        "train.validate_every",
        train.validate_every,
        "0 without train.held_out and without validation",
    )
    good = not (train.held_out and config.validation is not None)
    require(good, "train.held_out", train.held_out, "0 with a validation set of its own")
    if config.objective.couples:
        kind = type(config.objective).__name__
        allowed = f"1 with the objective {kind}, whose examples depend on each other"
        require(parallel.accumulate == 1, "parallel.accumulate", parallel.accumulate, allowed)
        allowed = f"jit and single with the objective {kind}"
        require(parallel.strategy != "pmap", "parallel.strategy", parallel.strategy, allowed)
