import numpy as np
import pyarrow as pa
import pytest

from prefopt.config.evaluate import BootstrapConfig
from prefopt.evaluation.minority import detect, label_truth, offline_u, online_u
from prefopt.evaluation.statistics import Resampling

HOW = Resampling(BootstrapConfig(resamples=200), seed=0)


def votes(*rows):
    return pa.table(
        {
            "vote_id": [row[0] for row in rows],
            "pair_id": [row[1] for row in rows],
            "label": [float(row[2]) for row in rows],
            "latest": [len(row) < 4 for row in rows],
        }
    )


BEFORE = votes(("v1", "p", 1), ("v2", "p", 1), ("v3", "p", 0), ("v4", "q", 0), ("v5", "q", 0.5), ("v6", "q", 1, "old"))


def after(**changed):
    labels = [
        changed.get(vote, label)
        for vote, label in zip(*(BEFORE[n].to_pylist() for n in ("vote_id", "label")), strict=True)
    ]
    return BEFORE.set_column(2, "label", pa.array([float(label) for label in labels]))


def test_each_vote_that_counts_is_a_label_and_ties_are_not():
    truth = label_truth(after(v2=0), BEFORE, "each_vote")
    assert truth["vote_id"].to_pylist() == ["v1", "v2", "v3", "v4"]
    assert truth["flipped"].to_pylist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("changed", "flipped"), [({"v2": 0}, [True, False]), ({"v3": 1}, [False, False]), ({"v4": 1}, [False, True])]
)
def test_under_another_rule_a_label_is_a_pair_whose_majority_may_move(changed, flipped):
    truth = label_truth(after(**changed), BEFORE, "majority")
    assert truth["vote_id"].to_pylist() == truth["pair_id"].to_pylist() == ["p", "q"]
    assert truth["flipped"].to_pylist() == flipped


def test_offline_u_is_turned_towards_the_label():
    scores = pa.table({"pair_id": ["p", "q"], "u": [0.1, None], "stability": [0.7, None]})
    truth = label_truth(BEFORE, BEFORE, "each_vote")
    found = offline_u(truth, scores).sort_by("vote_id")
    assert found["vote_id"].to_pylist() == ["v1", "v2", "v3"]
    assert found["u"].to_pylist() == pytest.approx([0.1, 0.1, 0.6])  # v3 says that image_1 wins: 0.7 - 0.1


def test_without_a_panel_there_is_no_offline_u():
    scores = pa.table({"pair_id": ["p"], "u": pa.nulls(1, pa.float64()), "stability": pa.nulls(1, pa.float64())})
    assert offline_u(label_truth(BEFORE, BEFORE, "each_vote"), scores) is None


def test_online_u_is_the_mean_after_the_warm_up():
    seen = pa.table({"vote_id": ["a", "a", "a", "b"], "step": [1, 2, 3, 1], "u": [0.0, 0.2, 0.4, 0.0]})
    found = online_u(seen, warmup=1)
    assert found["vote_id"].to_pylist() == ["a"]
    assert found["u"].to_pylist() == pytest.approx([0.3])


def truth_and_u(flipped, u):
    names = [f"v{i:03d}" for i in range(len(u))]
    truth = pa.table({"vote_id": names, "pair_id": names, "label": [1.0] * len(u), "flipped": flipped})
    return truth, pa.table({"vote_id": names[::-1], "u": u[::-1]}), {name: name for name in names}


def test_detection_where_the_truth_is_known():
    flipped = [i % 5 == 0 for i in range(50)]
    u = [0.9 if is_flipped and i % 10 == 0 else 0.05 + i / 100 for i, is_flipped in enumerate(flipped)]
    truth, values, prompts = truth_and_u(flipped, u)
    found = detect("online", truth, values, prompts, HOW, injected=True)
    assert found.clean.sum() == 40
    assert found.flipped.sum() == 10
    assert found.flipped[22] == 5  # 0.9 lies in [0.88, 0.92)
    gaps = np.array(u)[np.array(flipped)][:, None] - np.array(u)[~np.array(flipped)]
    assert found.auroc.value == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    assert found.auroc.n == 50
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert len(found.roc.fpr) == len(found.roc.tpr) == len(found.roc.thresholds)


@pytest.mark.parametrize(("flipped", "injected"), [([True, False], False), ([False, False], True)])
def test_without_flips_there_is_a_distribution_alone(flipped, injected):
    truth, values, prompts = truth_and_u(flipped, [0.1, 0.2])
    found = detect("offline", truth, values, prompts, HOW, injected=injected)
    assert (found.flipped, found.auroc, found.roc) == (None, None, None)
    assert found.clean.sum() == 2


def test_labels_without_u_are_left_out_and_none_at_all_is_no_detection():
    truth, values, prompts = truth_and_u([True, False, False], [0.5, 0.4, float("nan")])
    assert detect("online", truth, values, prompts, HOW, injected=True).auroc.n == 2
    assert detect("online", truth, values.slice(0, 0), prompts, HOW, injected=True) is None
