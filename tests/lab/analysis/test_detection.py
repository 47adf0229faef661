"""The distribution of u."""

import numpy as np
import pytest

from prefopt.lab.analysis.detection import LEAST, detections
from prefopt.lab.grid import Grid
from prefopt.lab.outcome import BINS, Detected
from prefopt.stages.minority import OFFLINE, ONLINE
from tests.kit import lab as kit


def flat(labels: int, flipped: int) -> Detected:
    """As many of each in every bin."""
    return Detected(
        labels=[labels] * BINS, flipped=[flipped] * BINS, minority=None, auroc_flipped=0.5, auroc_minority=None
    )


def cells(*found: Detected) -> Grid:
    return Grid.of(
        kit.outcome("adaptive_dpo", "flips-20", seed, detected={ONLINE: one}) for seed, one in enumerate(found)
    )


def test_counts_are_summed_over_seeds() -> None:
    grid = Grid.of(kit.drawn())
    own = next(one for one in detections(grid, grid.methods) if (one.source, one.noise.rate) == (ONLINE, 0.2))
    assert (own.seeds, own.methods) == (5, ("adaptive_dpo",))
    assert own.labels.sum() == 5 * kit.LABELS
    assert own.flipped is not None
    assert own.flipped.labels.sum() == kit.LABELS
    assert own.flipped.auroc is not None
    assert own.flipped.auroc.n == 5
    assert 0.97 < own.flipped.auroc.value < 1.0
    assert own.minority is None


def test_a_share_that_rises_with_u_is_seen_and_a_flat_one_is_not() -> None:
    rng = np.random.default_rng(5)
    rising = detections(cells(*(kit.spread(rng, 0.2) for _ in range(4))), ["adaptive_dpo"])[0].flipped
    level = detections(cells(flat(100, 20), flat(110, 22)), ["adaptive_dpo"])[0].flipped
    assert rising is not None
    assert level is not None
    assert rising.rise is not None
    assert rising.rise > 0.9
    assert rising.rise_by_seed is not None
    assert rising.rise_by_seed.low is not None
    assert rising.rise_by_seed.low > 0.8
    assert level.rise == 0.0


def test_a_bin_weighs_each_seed_by_its_labels() -> None:
    doubted = detections(cells(flat(100, 10), flat(300, 90)), ["adaptive_dpo"])[0].flipped
    assert doubted is not None
    assert [share.value for share in doubted.shares if share] == pytest.approx([0.25] * BINS)


def test_bins_of_few_labels_take_no_part_in_the_rank_correlation() -> None:
    labels, flipped = [500, 500, 500] + [1] * (BINS - 3), [50, 100, 150] + [0] * (BINS - 3)
    found = Detected(labels=labels, flipped=flipped, minority=None, auroc_flipped=0.6, auroc_minority=None)
    doubted = detections(cells(found), ["adaptive_dpo"])[0].flipped
    assert doubted is not None
    assert doubted.rise == pytest.approx(1.0)


def test_a_seed_with_too_few_bins_is_named() -> None:
    grid = cells(flat(100, 10), flat(LEAST - 1, 3), flat(100, 10))
    doubted = detections(grid, ["adaptive_dpo"])[0].flipped
    assert doubted is not None
    assert doubted.rise_by_seed is not None
    assert doubted.rise_by_seed.n == 2
    assert (doubted.unranked, doubted.without) == ((1,), ", without seed 1")


def test_methods_that_share_a_u_share_a_row() -> None:
    grid = Grid.of(kit.drawn())
    offline = [one for one in detections(grid, list(kit.GAINS)) if one.source == OFFLINE]
    assert [one.methods for one in offline] == [tuple(kit.GAINS)] * 4


def test_clean_labels_have_a_distribution_and_nothing_to_find() -> None:
    grid = Grid.of(kit.drawn(noises=["clean"]))
    own = next(one for one in detections(grid, grid.methods) if one.source == ONLINE)
    assert own.labels.sum() == 5 * kit.LABELS
    assert own.flipped is None


def test_minority_labels_are_told_where_they_are_known() -> None:
    known = kit.spread(np.random.default_rng(6), 0.3)
    moved = known.model_copy(update={"minority": known.flipped, "flipped": [0] * BINS, "auroc_flipped": None})
    own = detections(cells(moved.model_copy(update={"auroc_minority": 0.9})), ["adaptive_dpo"])[0]
    assert own.flipped is None
    assert own.minority is not None
    assert own.minority.auroc is not None
    assert own.minority.auroc.value == 0.9
