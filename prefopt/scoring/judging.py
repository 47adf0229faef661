"""From what was measured of every pair to its soft preference, its minority metric and the scales behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.config.alpha import AlphaConfig
from prefopt.data.scales import Calibration, Scales, check_alike, measure_rewards, root_mean_square
from prefopt.data.schema import SCORES
from prefopt.errors import InputError
from prefopt.scoring.alpha import preference_gaps, soft_preference
from prefopt.scoring.calibration import fit_calibration
from prefopt.scoring.panel import Margins, check_snapshots, judge_pairs, scaled_margins
from prefopt.scoring.reliability import SPLIT, Reliability, measure_reliability
from prefopt.scoring.votes import PairVotes


@dataclass(frozen=True)
class Evidence:
    """What was measured, in the order of the pairs."""

    rewards: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Scores of image_0 and of image_1, float32 [n], by name."""
    snapshots: Mapping[str, np.ndarray]
    """z [n] by the annotator's name, NaN outside the sample."""
    votes: PairVotes


@dataclass(frozen=True)
class Judgement:
    """What follows from it."""

    evidence: Evidence
    scales: Scales
    scores: pa.Table
    """SCORES."""
    reliability: Reliability | None
    """None without alpha."""


def judge(config: RunConfig, pairs: pa.Table, evidence: Evidence, frozen: Scales | None = None) -> Judgement:
    """Scales and calibration from the training split, scores of all pairs, reliability on the validation split.

    `pairs` is sorted as the evidence is. `frozen` are scales and calibration of an earlier training split, which new
    data do not move. InputError if the training split is empty, a calibration cannot be fitted, a snapshot has no
    scale, or the frozen scales are of other rewards or another panel.
    """
    split = np.asarray(pairs["split"].to_pylist())
    train = split == "train"
    if not train.any():
        raise InputError("The training split is empty: give more data, or lower ingest.split.validation and .test.")
    margins = _margins(config, evidence)
    scales = _scales(config, evidence, margins, train)
    if frozen is not None:
        check_alike(frozen, scales)
        scales = frozen
    columns: dict[str, Any] = {"pair_id": pairs["pair_id"], "vote_share": evidence.votes.share}
    reliability = None
    if config.score.alpha:
        gaps = preference_gaps(config, evidence.rewards, scales.rewards)
        calibration = (
            frozen.calibration if frozen else _calibration(config.score.alpha, gaps[train], evidence.votes.share[train])
        )
        scales = scales.model_copy(update={"calibration": calibration})
        columns["alpha"] = soft_preference(gaps, calibration)
        held_out = split == SPLIT
        reliability = _reliability(config.score.alpha, gaps[held_out], evidence.votes.share[held_out], calibration)
    if margins:
        assert config.score.panel is not None
        logits = scaled_margins(margins, scales, config.score.panel.rho)
        columns |= {**judge_pairs(logits), "margins": list(logits.T)}
    return Judgement(evidence, scales, _table(columns, pairs.num_rows), reliability)


def _margins(config: RunConfig, evidence: Evidence) -> Margins | None:
    panel = config.score.panel
    if panel is None:
        return None
    return Margins(
        {name: np.subtract(*evidence.rewards[name], dtype=np.float64) for name in panel.rewards},
        evidence.snapshots,
        evidence.votes.crowd(panel.crowd_votes) if panel.crowd else None,
    )


def _scales(config: RunConfig, evidence: Evidence, margins: Margins | None, train: np.ndarray) -> Scales:
    rewards = measure_rewards({name: (a[train], b[train]) for name, (a, b) in evidence.rewards.items()})
    if margins is None:
        return Scales(rewards=rewards)
    assert config.score.panel is not None
    seen = {name: z[train] for name, z in margins.snapshots.items()}
    snapshots = {name: root_mean_square(z) for name, z in seen.items()}
    check_snapshots(snapshots, seen, config.score.panel)
    return Scales(
        rewards=rewards,
        snapshots=snapshots,
        crowd_rms=0.0 if margins.crowd is None else root_mean_square(margins.crowd[train]),
        annotators=margins.annotators,
    )


def _calibration(config: AlphaConfig, gaps: np.ndarray, share: np.ndarray) -> Calibration | None:
    return None if config.calibrate == "none" else fit_calibration(config.calibrate, gaps, share)


def _reliability(
    config: AlphaConfig, gaps: np.ndarray, share: np.ndarray, calibration: Calibration | None
) -> Reliability:
    return Reliability(
        pairs=len(gaps),
        calibrate=config.calibrate,
        before=measure_reliability(soft_preference(gaps), share),
        after=measure_reliability(soft_preference(gaps, calibration), share) if calibration else None,
    )


def _table(columns: dict[str, Any], rows: int) -> pa.Table:
    known = {**{field.name: pa.nulls(rows, field.type) for field in SCORES}, **columns}
    return pa.table({name: known[name] for name in SCORES.names}).cast(SCORES)
