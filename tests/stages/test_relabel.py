"""Labels that are changed before training, from votes and scores by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefopt.config.labels import LabelsConfig
from prefopt.data.schema import LABELS, SCORES
from prefopt.errors import ConfigError
from prefopt.stages.relabel import relabelled
from tests.kit.data import small_config

VOTES = {"v0": ("a", 1.0), "v1": ("b", 1.0), "v2": ("b", 0.0), "v3": ("c", 0.5), "v4": ("d", 0.0)}
MARGINS = {"a": [-1.0, -2.0, 0.5], "b": [1.0, 2.0, 3.0], "c": [1.0, 1.0, -1.0], "d": [1.0, -1.0, 0.0]}
U = {"a": 0.6, "b": 0.1, "c": 0.3, "d": 0.5}
STABILITY = {"a": 0.9, "b": 0.8, "c": 0.9, "d": 0.7}
"""u of the second image's label: 0.3, 0.7, 0.6, 0.2."""


def votes() -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            **dict.fromkeys(LABELS.names),
            "vote_id": vote,
            "pair_id": pair,
            "label": label,
            "latest": True,
            "annotator": "p",
            "row": 0,
            "flipped_by": "",
        }
        for vote, (pair, label) in VOTES.items()
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


def scores() -> pa.Table:
    rows = [{"pair_id": pair, "u": U[pair], "stability": STABILITY[pair], "margins": MARGINS[pair]} for pair in U]
    return pa.Table.from_pylist(rows, schema=SCORES)


def seen(**options: Any) -> dict[str, float]:
    table = relabelled(votes(), scores(), LabelsConfig(**options), voters=3)
    assert table.schema == votes().schema
    return dict(zip(table["vote_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def test_labels_stay_by_default() -> None:
    assert seen() == {vote: label for vote, (_, label) in VOTES.items()}
    assert relabelled(votes(), None, LabelsConfig()).equals(votes())


def test_the_panel_outvotes_every_vote_but_ties_stay_and_its_own_tie_is_one() -> None:
    assert seen(relabel="majority_vote") == {"v0": 0.0, "v1": 1.0, "v2": 1.0, "v3": 0.5, "v4": 0.5}


def test_only_the_reward_models_vote() -> None:
    """Of d's annotators one is for, one against, and one abstains: the first alone decides it."""
    table = relabelled(votes(), scores(), LabelsConfig(relabel="majority_vote"), voters=2)
    assert table["label"].to_pylist() == [0.0, 1.0, 1.0, 0.5, 0.5]
    table = relabelled(votes(), scores(), LabelsConfig(relabel="majority_vote"), voters=1)
    assert table["label"].to_pylist() == [0.0, 1.0, 1.0, 0.5, 1.0]


def test_the_votes_of_highest_u_are_left_out_or_turned_round_but_no_tie() -> None:
    """Of the four votes with a winner v2 has u 0.7 and v0 0.6; the tie would have 0.6 on its other side."""
    assert set(seen(relabel="filter_minority", share=0.25)) == {"v0", "v1", "v3", "v4"}
    assert set(seen(relabel="filter_minority", share=0.5)) == {"v1", "v3", "v4"}
    assert seen(relabel="flip_minority", share=0.5) == {"v0": 0.0, "v1": 1.0, "v2": 1.0, "v3": 0.5, "v4": 0.0}


def test_reversed_labels_come_last() -> None:
    assert seen(reverse=True) == {"v0": 0.0, "v1": 0.0, "v2": 1.0, "v3": 0.5, "v4": 1.0}
    assert seen(relabel="flip_minority", share=0.25, reverse=True)["v2"] == 0.0


def test_a_vote_of_rewards_needs_rewards(tmp_path: Path) -> None:
    panel = {"snapshots": ["a", "b"]}
    with pytest.raises(ConfigError, match=r"majority_vote needs score\.panel\.rewards"):
        small_config(tmp_path, [{"kind": "world"}], labels={"relabel": "majority_vote"}, score={"panel": panel})


def test_relabelling_needs_a_panel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels\.relabel majority_vote needs score\.panel"):
        small_config(tmp_path, [{"kind": "world"}], labels={"relabel": "majority_vote"}, score={})
