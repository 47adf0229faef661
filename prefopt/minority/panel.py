"""Offline u: the minority metric over a panel of annotators, some of whom did not judge every pair."""

import torch
from torch import Tensor

from prefopt.minority.metric import MinorityMetric, minority_metric


def panel_metric(a_MB: Tensor) -> MinorityMetric:
    """Metric of panel logits a [M, B], NaN where an annotator did not judge a pair. Source: prefopt.

    Each pair's is `minority_metric` of the annotators it has, float64 [B], for the label "the first image wins"; NaN
    with fewer than two of them. Raises ValueError unless logits are [M, B].
    """
    if a_MB.dim() != 2:
        raise ValueError(f"panel logits must have shape [M, B], got {list(a_MB.shape)}")
    wide = a_MB.detach().to(torch.float64)
    judged = ~torch.isnan(wide)
    found = torch.full((len(MinorityMetric._fields), wide.shape[1]), torch.nan, dtype=torch.float64)
    for annotators in torch.unique(judged, dim=1).T:
        if int(annotators.sum()) >= 2:
            pairs = (judged == annotators[:, None]).all(dim=0)
            found[:, pairs] = torch.stack(minority_metric(wide[annotators][:, pairs]))
    return MinorityMetric(*found)
