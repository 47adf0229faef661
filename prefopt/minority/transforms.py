"""Baselines that change the data instead of the loss: voting, filtering and flipping minority labels.

Shape key: M annotators, B rows. Labels are P(the first image wins): 1, 0, a share in between, or 0.5 for a tie.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def majority_vote(margins_MB: Floats) -> NDArray[np.float64]:
    """Labels [B] by the panel's majority: 1, 0 or, where as many are for as against, 0.5.

    An annotator is for the first image where its margin is above 0, against it below 0; 0 and NaN abstain. A tie is
    never turned into a winner: 0.5 is what the data pipeline drops, or keeps as a tie. The voting baseline of
    Adaptive-DPO's paper (arXiv 2503.16921; which panel voted there is unconfirmed).
    Raises ValueError unless margins are [M, B] with M >= 1.
    """
    margins = np.asarray(margins_MB, np.float64)
    if margins.ndim != 2 or margins.shape[0] < 1:
        raise ValueError(f"margins must have shape [M, B] with M >= 1, got {list(margins.shape)}: a row per annotator")
    votes_for, votes_against = (margins > 0).sum(axis=0), (margins < 0).sum(axis=0)
    return np.where(votes_for == votes_against, 0.5, (votes_for > votes_against).astype(np.float64))


def filter_minority(u_B: Floats, share: float, ids: Sequence[str] | None = None) -> NDArray[np.bool_]:
    """Which rows [B] to keep when the round(share * B) rows of highest u are dropped.

    Of equal u the first by `ids` goes first, so that the result does not depend on the rows' order; without ids, the
    earlier row. Raises ValueError for a share outside [0, 1], a u outside [0, 1] or NaN, or another number of ids.
    """
    return ~_highest(u_B, share, ids)


def flip_minority(label_B: Floats, u_B: Floats, share: float, ids: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Labels [B] with the round(share * B) rows of highest u turned to 1 - label; ties stay ties.

    The rows are those that `filter_minority` drops. Raises ValueError as it does, and for labels outside [0, 1].
    """
    label = np.asarray(label_B, np.float64)
    _check_unit("label", label, np.shape(u_B))
    return np.where(_highest(u_B, share, ids), 1.0 - label, label)


def _highest(u_B: Floats, share: float, ids: Sequence[str] | None) -> NDArray[np.bool_]:
    u = np.asarray(u_B, np.float64)
    _check_unit("u", u, (u.size,))
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if ids is not None and len(ids) != u.size:
        raise ValueError(f"ids must name each of the {u.size} rows, got {len(ids)}")
    order = np.lexsort((np.arange(u.size) if ids is None else np.asarray(ids), -u))
    chosen = np.zeros(u.size, dtype=np.bool_)
    chosen[order[: round(share * u.size)]] = True
    return chosen


def _check_unit(name: str, value: Floats, shape: tuple[int, ...]) -> None:
    if value.shape != shape or not bool(((value >= 0.0) & (value <= 1.0)).all()):
        raise ValueError(f"{name} must hold one number in [0, 1] for each row, without NaN")
