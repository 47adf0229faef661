"""How votes become the labels that training sees."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Share


class LabelsConfig(Branch):
    """From votes to labels: baselines that change the data instead of the loss come first, then the rule."""

    relabel: Literal["none", "majority_vote", "filter_minority", "flip_minority"] = "none"
    """`majority_vote`: every vote says what most of the panel's reward models say; `filter_minority`: the votes with
    the highest offline u are left out; `flip_minority`: they are turned round. All need `score.panel`."""
    share: Share = 0.2
    """The share of votes that `filter_minority` and `flip_minority` take for minority labels."""
    reverse: bool = False
    """Swap winner and loser of every pair: for the negative model of Diffusion-NPO (arXiv 2505.11245)."""
    rule: Annotated[Literal["each_vote", "majority", "share"], Field(alias="from")] = "each_vote"
    """`each_vote`: each vote is an example; `majority`: one label a pair; `share`: (n_w + 1/2) / (n + 1)."""
