"""Averages of the parameters, in the form that `initial_state` and `make_step` take."""

from jaxdiff.averages import Rule, constant


def ema(rule: float | Rule = 0.9999, name: str = "ema") -> dict[str, Rule]:
    """An exponential moving average of the parameters: its rule, under its name.

    `initial_state` and `make_step` take the result as `averages`. Several averages are joined: `ema(0.99, "short") |
    ema(0.9999, "long")`. The average is `state.ema[name]`.

    Args:
      rule: the decay, for `averages.constant`; or a rule of `jaxdiff.averages`, such as `half_life(500_000, 64)`.
      name: the name of the average in the state.

    Raises:
      ValueError: a decay outside [0, 1).
    """
    return {name: rule if callable(rule) else constant(rule)}
