"""One tableau after another, as one tableau."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdiff.arithmetic import namespace, root
from jaxdiff.processes import same_process
from jaxdiff.solvers.tableau import Tableau


def chain(first: Tableau, second: Tableau, *, scale: Any = 1.0, noise: Any = 0.0) -> Tableau:
    """The tableau that samples with `first`, and from `scale` times its sample plus `noise` z with `second`.

    All of a tableau's state starts equal, so that the last combination of `first` and the first of `second` are one:
    the sample's coefficients times the row sums of `second`'s. Their noises are independent and add in variance; a row
    has one z, so the samples of `first` and `second` one after the other are the same in law, and the same to rounding
    where the rows that meet have no noise. The number of points and of remembered estimates is the larger of the two.

    Args:
      first, second: of one process. Nothing checks that `second` starts at the time where `first` ends.
      scale: of the sample of `first`.
      noise: the standard deviation of what is added to it, at least 0.

    Raises:
      TypeError: not tableaux.
      ValueError: different processes, a negative or infinite number, or a `second` that goes on from estimates that it
        has not made.
    """
    for name, tableau in (("first", first), ("second", second)):
        if not isinstance(tableau, Tableau):
            raise TypeError(f"{name} is a {type(tableau).__name__}; allowed is what a solver returns, a Tableau")
    for name, value in (("scale", scale), ("noise", noise)):
        if not isinstance(value, jax.core.Tracer) and not 0 <= value < np.inf:
            raise ValueError(f"{name} = {value}; allowed are finite numbers of at least 0")
    if not same_process(first.process, second.process):
        raise ValueError(f"first was made for {first.process}, second for {second.process}; use one process")
    return join([first, second], [1.0, scale], [0.0, noise])


def join(pieces: Sequence[Tableau], scales: Sequence[Any], noises: Sequence[Any]) -> Tableau:
    """Many tableaux, one after the other: `scales[k]` and `noises[k]` are what happens before `pieces[k]`."""
    points, history = max(piece.points for piece in pieces), max(piece.history_length for piece in pieces)
    noisy = any(piece.noise.shape[-1] or _nonzero(noise) for piece, noise in zip(pieces, noises, strict=True))
    xp = namespace(pieces[0].state)
    arrived, lost = xp.eye(1, points + history)[0], xp.zeros(int(noisy))  # x_T, in all of the state
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
        states += [(share[:, None] * scale * arrived)[None], state[1:-1]]
        drawn += [begin[None], z[1:-1]]
        arrived, lost = state[-1, -1], z[-1, -1]
    rows = (np.ones((points, 1)) * arrived)[None], (np.ones((points, 1)) * lost)[None]
    return Tableau(
        pieces[0].process,
        times=xp.concatenate([piece.times for piece in pieces]),
        state=xp.concatenate([*states, rows[0]]),
        noise=xp.concatenate([*drawn, rows[1]]),
        history_target=xp.concatenate([piece.history_target for piece in pieces]),
    )


def _nonzero(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer) or value != 0


def _pad(xp: Any, piece: Tableau, points: int, history: int, noisy: bool) -> tuple[Any, Any]:
    """State and noise with more points, in front of a piece's own, and more history; nothing reads or fills either."""
    state, noise, ahead = piece.state, piece.noise, points - piece.points
    if state.shape[1:] != (points, points + history):
        state = xp.pad(state, ((0, 0), (ahead, 0), (ahead, history - piece.history_length)))
    if noise.shape[1:] != (points, int(noisy)):
        noise = xp.pad(noise, ((0, 0), (ahead, 0), (0, int(noisy) - noise.shape[-1])))
    return state, noise


def _add_noise(xp: Any, share: Any, variance: Any, own: Any) -> Any:
    """The first row's noise, `[r, 1]`, when what comes in already has some, of which each point takes its share."""
    concrete = not any(isinstance(value, jax.core.Tracer) for value in (share, variance, own))
    if concrete and not np.any(variance):
        return own
    if concrete and not np.allclose(own * share.T, share * own.T, rtol=1e-9, atol=1e-12):
        raise ValueError(
            "second draws noise in its first combination that its points do not share as they share the sample; a row "
            "has one z, and allowed is noise in proportion"
        )
    variance = variance + (xp.sum(own * share) / xp.sum(share * share)) ** 2
    return share * root(variance)


def _check_history(piece: Tableau) -> None:
    """Refuses a tableau that reads estimates it has not made: in a chain they are those of the one before."""
    if isinstance(piece.state, jax.core.Tracer):
        return
    for i in range(1, min(piece.history_length, len(piece) + 1)):
        if np.any(piece.state[i, :, piece.points + i :]):
            raise ValueError(
                f"second reads in row {i} an estimate older than itself; allowed are tableaux that start afresh"
            )
