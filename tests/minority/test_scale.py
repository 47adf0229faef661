import itertools
import json
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import RunningScale, global_scale, minority_metric, reference_scale, scale_by_rms


def gaps(num_pairs: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, num_pairs, generator=generator, dtype=torch.float64) * 1e-3


class GapSums(NamedTuple):
    squares: torch.Tensor
    z0: float
    num_pairs: int


def gap_sums(*parts: torch.Tensor) -> GapSums:
    """What micro-batches [M, B] of gaps add up to."""
    squares = torch.stack([part.double().square().sum(dim=1) for part in parts]).sum(dim=0)
    return GapSums(squares, sum(part[0].double().sum().item() for part in parts), sum(part.shape[1] for part in parts))


def ready_scale(steps: int = 3, decay: float = 0.9) -> RunningScale:
    state = RunningScale(3, decay=decay, warmup=0)
    for seed in range(steps):
        sums = gap_sums(gaps(seed=seed))
        state.update(sums.squares, sums.z0, sums.num_pairs)
    return state


def test_running_mean_is_bias_corrected_by_hand() -> None:
    state = RunningScale(2, decay=0.9, warmup=0)
    state.update([8.0, 2.0], 4.0, 2)
    assert state.rms == pytest.approx([2.0, 1.0])
    assert state.margin_mean == pytest.approx(2.0)
    state.update([36.0, 2.0], -8.0, 2)
    assert state.rms == pytest.approx([math.sqrt((0.09 * 4 + 0.1 * 18) / 0.19), 1.0])
    assert state.margin_mean == pytest.approx((0.09 * 2 - 0.1 * 4) / 0.19)
    assert state.scale(torch.tensor([[1.0], [0.5]]), 3.75)[1].item() == pytest.approx(3.75 * 0.5)


def test_warm_up_gives_u_zero_and_no_margin() -> None:
    state, z = RunningScale(3, warmup=10), gaps()
    for step in range(10):
        assert not state.ready, step
        assert state.margin_mean == 0.0
        assert torch.equal(minority_metric(state.scale(z, 3.75)).u, torch.zeros(12, dtype=torch.float64))
        state.update(*gap_sums(z))
    assert state.ready
    assert minority_metric(state.scale(z, 3.75)).u.max() > 0


@pytest.mark.parametrize("dead", [0.0, 3e-8])
def test_an_annotator_without_scale_gives_u_zero(dead: float) -> None:
    z = gaps()
    z[1] = dead
    state = RunningScale(3, warmup=0)
    assert not state.ready
    state.update(*gap_sums(z))
    assert not state.ready
    assert not state.scale(z, 3.75).any()


def test_state_survives_json_exactly() -> None:
    state, other = ready_scale(), RunningScale(3, warmup=0)
    other.load_state_dict(json.loads(json.dumps(state.state_dict())))
    for each in (state, other):
        each.update(*gap_sums(gaps(seed=9)))
    assert other.state_dict() == state.state_dict()
    assert torch.equal(other.scale(gaps(), 3.75), state.scale(gaps(), 3.75))


def test_foreign_state_is_refused() -> None:
    with pytest.raises(ValueError, match="annotators"):
        RunningScale(2).load_state_dict(ready_scale().state_dict())
    with pytest.raises(ValueError, match="decay"):
        RunningScale(3, decay=0.5).load_state_dict(ready_scale().state_dict())


@pytest.mark.parametrize(
    ("squares", "z0", "count", "message"),
    [
        ([1.0, 1.0], 0.0, 1, "annotators"),
        ([1.0, 1.0, 1.0], 0.0, 0, "count"),
        ([1.0, math.nan, 1.0], 0.0, 1, "finite"),
        ([1.0, 1.0, 1.0], math.inf, 1, "finite"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(squares: list[float], z0: float, count: int, message: str) -> None:
    state = ready_scale()
    before = state.state_dict()
    with pytest.raises(ValueError, match=message):
        state.update(squares, z0, count)
    assert state.state_dict() == before


def test_bad_settings_are_refused() -> None:
    for arguments in ({"num_annotators": 0}, {"num_annotators": 3, "decay": 1.0}, {"num_annotators": 3, "warmup": -1}):
        with pytest.raises(ValueError, match="need"):
            RunningScale(**arguments)
    with pytest.raises(ValueError, match="expected 3 annotators"):
        ready_scale().scale(torch.zeros(2, 4), 3.75)
    with pytest.raises(ValueError, match="count"):
        global_scale(gaps(), torch.ones(3), 0, 3.75)


@given(st.permutations(range(12)), st.lists(st.integers(0, 12), max_size=4))
def test_running_and_global_do_not_depend_on_split_or_order(order: list[int], cuts: list[int]) -> None:
    z, state = gaps(), ready_scale()
    whole = gap_sums(z)
    bounds = [0, *sorted(cuts), 12]
    parts = [z[:, order][:, a:b] for a, b in itertools.pairwise(bounds)]
    sums = gap_sums(*parts)
    assert sums.num_pairs == 12

    split = torch.cat([global_scale(part, sums.squares, sums.num_pairs, 3.75) for part in parts], dim=1)
    torch.testing.assert_close(split, global_scale(z, whole.squares, 12, 3.75)[:, order], rtol=1e-12, atol=0)

    split = torch.cat([state.scale(part, 3.75) for part in parts], dim=1)
    assert torch.equal(split, state.scale(z, 3.75)[:, order])
    once, twice = ready_scale(), ready_scale()
    once.update(*whole)
    twice.update(*sums)
    assert twice.rms == pytest.approx(once.rms, rel=1e-12)
    assert twice.margin_mean == pytest.approx(once.margin_mean, rel=1e-9)


def test_reference_depends_on_the_split() -> None:
    z = gaps()
    halves = torch.cat([reference_scale(z[:, :6], 15.0), reference_scale(z[:, 6:], 15.0)], dim=1)
    assert not torch.allclose(halves, reference_scale(z, 15.0))


def test_reference_equals_rms_units_at_one_batch_size() -> None:
    z = gaps(16)
    sums = gap_sums(z)
    expected = global_scale(z, sums.squares, 16, 15 / math.sqrt(16))
    torch.testing.assert_close(reference_scale(z, 15.0), expected)
    assert reference_scale(z, 15.0).square().mean(dim=1).sqrt().tolist() == pytest.approx([3.75] * 3)


def test_reference_with_one_pair_keeps_only_signs() -> None:
    agree = minority_metric(reference_scale(torch.tensor([[1e-4], [2e-3], [5e-5]]), 15.0))
    differ = minority_metric(reference_scale(torch.tensor([[1e-4], [2e-3], [-5e-5]]), 15.0))
    assert agree.u.item() == 0.0
    assert differ.u.item() == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_zero_and_extreme_gaps_never_give_nan(dtype: torch.dtype) -> None:
    zeros = torch.zeros(3, 4, dtype=dtype)
    huge = torch.tensor([[1e6, -1e6, 0.0], [1e6, 1e6, 1e-30], [-1e6, 1e6, 1e6]], dtype=dtype)
    for z in (zeros, huge, huge * 0 + 1e-30):
        sums = gap_sums(z)
        state = RunningScale(3, warmup=0)
        state.update(*sums)
        for logits in (
            state.scale(z, 3.75),
            global_scale(z, sums.squares, sums.num_pairs, 3.75),
            reference_scale(z, 15.0),
        ):
            assert logits.isfinite().all()
            assert minority_metric(logits).u.isfinite().all()
    assert not reference_scale(zeros, 15.0).any()
    assert ready_scale().scale(torch.full((3, 1), 3e38), 3.75).isfinite().all()


def test_scaled_logits_carry_no_gradient() -> None:
    z = gaps().requires_grad_()
    for logits in (ready_scale().scale(z, 3.75), reference_scale(z, 15.0), scale_by_rms(z, torch.ones(3), 3.75)):
        assert not logits.requires_grad
