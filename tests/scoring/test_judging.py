"""From evidence to scores: a few pairs by hand, and the same verdict whatever the pairs are called."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from prefopt.config import RunConfig
from prefopt.data.schema import SCORES
from prefopt.errors import InputError
from prefopt.minority import minority_metric
from prefopt.scoring.judging import Evidence, Judgement, judge
from prefopt.scoring.panel import check_snapshots, snapshot_name
from prefopt.scoring.votes import PairVotes, count_votes
from tests.kit.data import small_config

NAMES = ("world/style", "world/taste")
SNAPSHOT = "snapshot/abc"


def config(**score: Any) -> RunConfig:
    return small_config(Path("place"), [{"kind": "world"}], score=score)


def pairs(splits: list[str]) -> pa.Table:
    return pa.table({"pair_id": [f"p{number}" for number in range(len(splits))], "split": splits})


def evidence(
    gaps: list[list[float]], z: list[float] | None = None, votes: list[tuple[float, int]] | None = None
) -> Any:
    count = len(gaps[0])
    rewards = {
        name: (np.array(gap, np.float32), np.zeros(count, np.float32)) for name, gap in zip(NAMES, gaps, strict=True)
    }
    share, number = np.array(votes or [(1.0, 1)] * count).T
    return Evidence(rewards, {SNAPSHOT: np.array(z)} if z else {}, PairVotes(share, number.astype(np.int64)))


def rows(judgement: Judgement) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = judgement.scores.to_pylist()
    return found


PANEL = {"rewards": NAMES, "rho": 2.0}
NAN = float("nan")


def test_margins_by_hand() -> None:
    """RMS on the two training pairs: rewards 1 and 2, the snapshot 0.5, the crowd (of one pair) ln 5.

    Two votes for image_0 make ln(2.5 / 0.5).
    """
    judgement = judge(
        config(panel=PANEL),
        pairs(["train", "train", "test"]),
        evidence([[1.0, -1.0, 2.0], [2.0, 2.0, 1.0]], [0.5, NAN, -1.0], [(1.0, 2), (0.0, 1), (0.5, 2)]),
    )
    assert judgement.scales.annotators == [*NAMES, SNAPSHOT, "crowd"]
    assert judgement.scales.rewards["world/taste"].rms == 2.0
    assert judgement.scales.snapshots == {SNAPSHOT: 0.5}
    assert judgement.scales.crowd_rms == pytest.approx(np.log(5.0))
    found = rows(judgement)
    assert found[0]["margins"] == pytest.approx([2.0, 2.0, 2.0, 2.0])
    assert found[1]["margins"] == pytest.approx([-2.0, 2.0, NAN, NAN], nan_ok=True)
    assert found[2]["margins"] == pytest.approx([4.0, 1.0, -4.0, 0.0])
    assert [row["panel_majority"] for row in found] == [1.0, 0.5, 1.0]
    assert [row["vote_share"] for row in found] == [1.0, 0.0, 0.5]
    assert found[0]["u"] == 0.0
    alone = minority_metric(torch.tensor([[-2.0], [2.0]], dtype=torch.float64))
    assert (found[1]["confidence"], found[1]["stability"], found[1]["u"]) == tuple(float(value) for value in alone)
    assert judgement.scores.schema == SCORES
    assert judgement.reliability is None
    assert {row["alpha"] for row in found} == {None}


def test_a_crowd_that_is_not_asked_does_not_sit_on_the_panel() -> None:
    judgement = judge(
        config(panel={**PANEL, "crowd": False}), pairs(["train"]), evidence([[1.0], [2.0]], votes=[(1.0, 9)])
    )
    assert judgement.scales.annotators == list(NAMES)
    assert rows(judgement)[0]["margins"] == [2.0, 2.0]


def test_a_crowd_without_a_scale_does_not_judge() -> None:
    judgement = judge(
        config(panel=PANEL), pairs(["train", "test"]), evidence([[1.0, 1.0], [2.0, 1.0]], votes=[(1.0, 1), (1.0, 3)])
    )
    assert np.isnan(rows(judgement)[1]["margins"][2])
    assert rows(judgement)[1]["u"] == pytest.approx(float(minority_metric(torch.tensor([[2.0], [1.0]])).u))


def test_scales_come_from_the_training_split_alone() -> None:
    def scales(gap: float) -> Any:
        return judge(config(panel=PANEL), pairs(["train", "test"]), evidence([[1.0, gap], [2.0, gap]])).scales

    assert scales(3.0) == scales(-70.0)


def test_without_alpha_and_panel_there_is_nothing_but_the_votes() -> None:
    judgement = judge(config(), pairs(["train"]), Evidence({}, {}, PairVotes(np.array([0.25]), np.array([4]))))
    assert rows(judgement) == [{**dict.fromkeys(SCORES.names), "pair_id": "p0", "vote_share": 0.25}]
    assert judgement.scales.annotators == []


def test_no_training_pair_is_an_error() -> None:
    with pytest.raises(InputError, match="training split is empty"):
        judge(config(panel=PANEL), pairs(["test"]), evidence([[1.0], [2.0]]))


def simulated(count: int, seed: int = 0) -> tuple[pa.Table, Evidence]:
    rng = np.random.default_rng(seed)
    gap = rng.normal(size=count)
    share = (rng.random(count) < 1 / (1 + np.exp(-3 * gap))).astype(np.float64)
    splits = ["train"] * (count // 2) + ["validation"] * (count - count // 2)
    return pairs(splits), evidence([gap.tolist(), gap.tolist()], votes=[(label, 1) for label in share])


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_is_fitted_on_train_frozen_and_judged_on_validation(kind: str) -> None:
    made = config(alpha={"reward": "world/style", "calibrate": kind})
    table, known = simulated(4000)
    judgement = judge(made, table, known)
    assert judgement.scales.calibration is not None
    assert judgement.scales.calibration.kind == kind
    assert judgement.scales.calibration.pairs == 2000
    found = judgement.reliability
    assert found is not None
    assert (found.pairs, found.split, found.calibrate) == (2000, "validation", kind)
    assert found.before is not None
    assert found.after is not None
    assert found.after.ece < 0.05 < found.before.ece
    assert found.after.log_loss < found.before.log_loss
    turned = known.votes.share.copy()
    turned[2000:] = 1.0 - turned[2000:]
    other = judge(made, table, Evidence(known.rewards, {}, PairVotes(turned, known.votes.count)))
    assert other.scales == judgement.scales
    assert other.scores["alpha"].equals(judgement.scores["alpha"])
    assert other.reliability != judgement.reliability


def test_without_calibration_only_the_first_figures_are_there() -> None:
    judgement = judge(config(alpha={"reward": "world/style"}), *simulated(300))
    assert judgement.scales.calibration is None
    assert judgement.reliability is not None
    assert judgement.reliability.before is not None
    assert judgement.reliability.after is None


def test_without_a_validation_split_reliability_is_not_known() -> None:
    known = simulated(300)[1]
    judgement = judge(config(alpha={"reward": "world/style"}), pairs(["train"] * 300), known)
    assert judgement.reliability is not None
    assert (judgement.reliability.pairs, judgement.reliability.before) == (0, None)


def test_a_snapshot_without_a_scale_is_refused() -> None:
    panel = config(panel={"rewards": NAMES, "snapshots": ["s"], "snapshot_share": 0.01}).score.panel
    assert panel is not None
    with pytest.raises(InputError, match=r"snapshot_share 0\.01 leaves no training pair for snapshot/abc"):
        check_snapshots({SNAPSHOT: 0.0}, {SNAPSHOT: np.array([NAN, NAN])}, panel)
    with pytest.raises(InputError, match=r"snapshot/abc .* hardly differs from its reference: .* 3e-08"):
        check_snapshots({SNAPSHOT: 3e-8}, {SNAPSHOT: np.array([3e-8])}, panel)
    check_snapshots({SNAPSHOT: 1e-5}, {SNAPSHOT: np.array([1e-5])}, panel)


def test_a_snapshot_is_called_by_its_weights() -> None:
    assert snapshot_name("0123456789abcdef" * 4) == "snapshot/0123456789ab"


def test_votes_that_count_by_hand() -> None:
    labels = pa.table(
        {
            "pair_id": ["b", "a", "a", "a"],
            "label": [0.5, 1.0, 0.0, 1.0],
            "latest": [True, True, False, True],
        }
    )
    found = count_votes(pa.table({"pair_id": ["a", "b"]}), labels)
    assert (found.share.tolist(), found.count.tolist()) == ([1.0, 0.5], [2, 1])
    assert found.crowd(2).tolist() == pytest.approx([np.log(5.0), NAN], nan_ok=True)
