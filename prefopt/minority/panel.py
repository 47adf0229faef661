"""Offline u: the minority metric over a panel of scorers, with the crowd as one more annotator where there is one."""

import torch
from torch import Tensor

from prefopt.minority.metric import MinorityMetric, minority_metric


def panel_metric(a_MB: Tensor, crowd_B: Tensor) -> MinorityMetric:
    """Metric of panel logits a [M, B] and crowd logits [B], NaN where a pair has no crowd. Source: prefopt.

    Each value is [B] and belongs to the label "the first image wins". Raises ValueError for fewer than two scorers.
    """
    has_crowd = ~torch.isnan(crowd_B)
    alone = minority_metric(a_MB)
    joined = minority_metric(torch.cat([a_MB, torch.nan_to_num(crowd_B)[None]]))
    return MinorityMetric(
        *(torch.where(has_crowd, with_, without) for with_, without in zip(joined, alone, strict=True))
    )
