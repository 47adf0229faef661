"""The panel's annotators, each with a margin for image_0 in units of its own root mean square, and their verdict."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from prefopt.config.panel import PanelConfig
from prefopt.data.scales import Scales, scaled_margin
from prefopt.errors import InputError
from prefopt.minority.panel import panel_metric
from prefopt.minority.scale import RMS_FLOOR
from prefopt.minority.transforms import majority_vote

CROWD = "crowd"


@dataclass(frozen=True)
class Margins:
    """What annotators think of pairs, [n] each on its own scale: positive for image_0, NaN where one did not judge."""

    rewards: Mapping[str, np.ndarray]
    snapshots: Mapping[str, np.ndarray]
    """z by the annotator's name."""
    crowd: np.ndarray | None

    @property
    def annotators(self) -> list[str]:
        """Names in the order of the scores' column `margins`: rewards, snapshots, the crowd."""
        return [*self.rewards, *self.snapshots, *([CROWD] if self.crowd is not None else [])]


def snapshot_name(weights_digest: str) -> str:
    """What the annotator that some weights make is called: the same wherever they lie."""
    return f"snapshot/{weights_digest[:12]}"


def scaled_margins(margins: Margins, scales: Scales, rho: float) -> np.ndarray:
    """Annotator logits rho * margin / RMS [M, n], NaN where an annotator did not judge.

    A crowd that judged no training pair has no scale, and did not judge.
    """
    rows = [scaled_margin(gap, scales.rewards[name].rms, rho) for name, gap in margins.rewards.items()]
    rows += [scaled_margin(z, scales.snapshots[name], rho) for name, z in margins.snapshots.items()]
    if margins.crowd is not None:
        known = scales.crowd_rms > 0.0
        rows.append(scaled_margin(margins.crowd, scales.crowd_rms, rho) if known else np.full_like(rows[0], np.nan))
    return np.stack(rows)


def check_snapshots(rms: Mapping[str, float], margins: Mapping[str, np.ndarray], panel: PanelConfig) -> None:
    """InputError for a snapshot that judges no training pair, or is its reference but for rounding.

    `margins` are those of the training pairs.
    """
    for name, of_snapshot in rms.items():
        if np.isnan(margins[name]).all():
            raise InputError(
                f"score.panel.snapshot_share {panel.snapshot_share:g} leaves no training pair for {name} to judge, so"
                " that its scale is unknown: raise it."
            )
        if of_snapshot < RMS_FLOOR:
            raise InputError(
                f"{name} (score.panel.snapshots) hardly differs from its reference: the root mean square of its"
                f" preferences is {of_snapshot:.2g}, which is rounding. Name a snapshot that has learned something."
            )


def judge_pairs(logits: np.ndarray) -> dict[str, np.ndarray]:
    """confidence, stability, u and panel_majority [n] from annotator logits [M, n]."""
    metric = panel_metric(torch.from_numpy(logits))
    return {
        **{name: value.numpy() for name, value in metric._asdict().items()},
        "panel_majority": majority_vote(logits),
    }
