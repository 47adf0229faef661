"""Finding minority labels (Adaptive-DPO, arXiv 2503.16921): annotator logits, the metric u, weights and margins."""

from prefopt.minority.ema import ema_decay, ema_update
from prefopt.minority.margins import MARGINS, margin
from prefopt.minority.metric import MinorityMetric, crowd_margin, minority_metric
from prefopt.minority.scale import RunningScale, global_scale, reference_scale, scale_by_rms
from prefopt.minority.transforms import filter_minority, flip_minority, majority_vote
from prefopt.minority.weights import WEIGHTS

__all__ = [
    "MARGINS",
    "WEIGHTS",
    "MinorityMetric",
    "RunningScale",
    "crowd_margin",
    "ema_decay",
    "ema_update",
    "filter_minority",
    "flip_minority",
    "global_scale",
    "majority_vote",
    "margin",
    "minority_metric",
    "reference_scale",
    "scale_by_rms",
]
