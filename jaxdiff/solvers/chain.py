"""Chains: several tableaux, one after the other, as one tableau."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdiff import checks, trees
from jaxdiff.arithmetic import namespace, root
from jaxdiff.processes import same_process
from jaxdiff.solvers.tableau import Tableau


def chain(first: Tableau, second: Tableau, *, scale: Any = 1.0, noise: Any = 0.0) -> Tableau:
    """The tableau that samples with `first`, then scales the sample and adds noise, then goes on with `second`.

        start of second = scale * (sample of first) + noise * z

    All points of `second` start equal, so the last combination of `first` and the first one of `second` become one
    row: the coefficients of the sample, times the row sums of `second`. The noises that meet in this row are
    independent, and their variances add. The row draws one z for all of them. The samples therefore have the same
    distribution as those of `first` and `second` one after the other. Without noise in this row they are the same to
    rounding. Both tableaux are padded to the larger number of points and the longer history. The chain renoises if both
    tableaux do.

    Args:
      first: the tableau that begins.
      second: the tableau that goes on. Nothing checks that `second` starts at the time where `first` ends.
      scale: a factor of the sample of `first`, at least 0.
      noise: the standard deviation of the noise that is added, at least 0.

    Raises:
      TypeError: `first` or `second` is not a tableau.
      ValueError: the processes differ, `scale` or `noise` is negative or infinite, or `second` reads estimates from
        before its own start.
    """
    for name, tableau in (("first", first), ("second", second)):
        if not isinstance(tableau, Tableau):
            raise TypeError(checks.message(name, type(tableau).__name__, "tableaux, which solvers return"))
    for name, value in (("scale", scale), ("noise", noise)):
        if not trees.traced(value):
            checks.not_negative(name, value)
    same = same_process(first.process, second.process)
    checks.require(same, "second.process", second.process, f"processes equal to first.process, {first.process}")
    return join([first, second], [1.0, scale], [0.0, noise])


def join(pieces: Sequence[Tableau], scales: Sequence[Any], noises: Sequence[Any]) -> Tableau:
    """A chain of many tableaux: `scales[k]` and `noises[k]` are applied before `pieces[k]`."""
    points, history = max(piece.points for piece in pieces), max(piece.history_length for piece in pieces)
    noisy = any(piece.noise.shape[-1] or _nonzero(noise) for piece, noise in zip(pieces, noises, strict=True))
    xp = namespace(pieces[0].state)
    arrived, lost = xp.eye(1, points + history)[0], xp.zeros(int(noisy))  # the initial noise, everywhere in the state
    states: list[Any] = []
    drawn: list[Any] = []
    for piece, scale, noise in zip(pieces, scales, noises, strict=True):
        if states:
            _check_history(piece)
        state, z = _pad(xp, piece, points, history, noisy)
        share = xp.sum(state[0], axis=-1)
        begin = z[0]
        if noisy:
            begin = _add_noise(xp, share[:, None], (scale * lost) ** 2 + noise**2, begin)
        states += [(share[:, None] * scale * arrived[None])[None], state[1:-1]]
        drawn += [begin[None], z[1:-1]]
        arrived, lost = state[-1, -1], z[-1, -1]
    rows = (np.ones((points, 1)) * arrived[None])[None], (np.ones((points, 1)) * lost[None])[None]
    return Tableau(
        pieces[0].process,
        times=xp.concatenate([piece.times for piece in pieces]),
        state=xp.concatenate([*states, rows[0]]),
        noise=xp.concatenate([*drawn, rows[1]]),
        history_target=xp.concatenate([piece.history_target for piece in pieces]),
        form="renoise" if all(piece.form == "renoise" for piece in pieces) else "solve",
    )


def _nonzero(value: Any) -> bool:
    return trees.traced(value) or value != 0


def _pad(xp: Any, piece: Tableau, points: int, history: int, noisy: bool) -> tuple[Any, Any]:
    """A piece's state and noise with unused points in front of its own, and an unused end of the history."""
    state, noise, ahead = piece.state, piece.noise, points - piece.points
    if state.shape[1:] != (points, points + history):
        state = xp.pad(state, ((0, 0), (ahead, 0), (ahead, history - piece.history_length)))
    if noise.shape[1:] != (points, int(noisy)):
        noise = xp.pad(noise, ((0, 0), (ahead, 0), (0, int(noisy) - noise.shape[-1])))
    return state, noise


def _add_noise(xp: Any, share: Any, variance: Any, own: Any) -> Any:
    """The noise `[r, 1]` of a piece's first row, with the noise that its start already has.

    Args:
      xp: numpy or jax.numpy.
      share: `[r, 1]`, the row sums of the piece's first combination: how much of its start each point takes.
      variance: the variance of the noise of the start, `[1]`.
      own: `[r, 1]`, the noise of the piece's first row.
    """
    concrete = not trees.traced((share, variance, own))
    if concrete and not np.any(variance):
        return own
    if concrete:  # One z makes both noises, so they must reach the points in the same proportion.
        good = np.allclose(own * share.T, share * own.T, rtol=1e-9, atol=1e-12)
        allowed = f"multiples of the row sums of second.state[0], {share.ravel()}, where first ends with noise"
        checks.require(good, "second.noise[0]", own.ravel(), allowed)
    variance = variance + (xp.sum(own * share) / xp.sum(share * share)) ** 2
    return share * root(variance)[None]


def _check_history(piece: Tableau) -> None:
    """Raises a ValueError if a tableau reads estimates from before its start: in a chain they are another piece's."""
    if trees.traced(piece.state):
        return
    for i in range(1, min(piece.history_length, len(piece) + 1)):
        row = piece.state[i, :, piece.points + i :]
        allowed = "zeros: after its first evaluations a tableau must not read estimates from before its start"
        checks.require(not np.any(row), f"second.state[{i}, :, {piece.points + i}:]", row, allowed)
