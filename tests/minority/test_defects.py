"""Defects of Adaptive-DPO's public code that the package's own modes do not have.

Elsewhere: dependence on the batch and its split (test_scale), the first update and the ramp of the averages
(test_ema), the sign of the margin (tests/objectives/test_defects).
"""

import pytest
import torch

from prefopt.minority import (
    RunningScale,
    ema_decay,
    ema_update,
    global_scale,
    margin,
    minority_metric,
    reference_scale,
)
from prefopt.minority.scale import RMS_FLOOR

QUIET = torch.tensor([[3e-8, -2e-8, 1e-8], [1e-8, 3e-8, -3e-8], [-2e-8, 1e-8, 2e-8]], dtype=torch.float64)
"""What a cached reference leaves of z = 0 at step 0."""


def running(z: torch.Tensor, steps: int) -> RunningScale:
    state = RunningScale(3, warmup=0)
    for _ in range(steps):
        state.update(z.square().sum(dim=1), float(z[0].sum()), z.shape[1])
    return state


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize("normalise", ["running", "global", "reference"])
@pytest.mark.parametrize("pairs", [1, 3])
def test_a_fresh_adapter_gives_u_zero(normalise: str, scale: float, pairs: int) -> None:
    """Defect: 0 / 0 where the weights have not moved. Rounding noise of a cached reference is not blown up either."""
    z = scale * QUIET[:, :pairs]
    logits = {
        "running": running(z, 5).scale(z, 3.75),
        "global": global_scale(z, z.square().sum(dim=1), pairs, 3.75),
        "reference": reference_scale(z, 15.0),
    }[normalise]
    assert minority_metric(logits).u.tolist() == [0.0] * pairs


def test_one_annotator_at_rest_is_enough_for_u_zero() -> None:
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-3
    z[1] = 3e-8
    for logits in (
        global_scale(z, z.square().sum(dim=1), 8, 3.75),
        reference_scale(z, 15.0),
        running(z, 5).scale(z, 1),
    ):
        assert not logits.any()


def test_the_floor_is_far_below_what_training_gives() -> None:
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-5
    assert RMS_FLOOR == 1e-7
    assert reference_scale(z, 15.0).square().mean(dim=1).sqrt().tolist() == pytest.approx([3.75] * 3)
    assert global_scale(z, z.square().sum(dim=1), 16, 3.75).square().mean(dim=1).sqrt().tolist() == pytest.approx(
        [3.75] * 3
    )


def test_the_public_norm_makes_u_depend_on_its_neighbours_and_the_running_scale_does_not() -> None:
    """Defect: the same pair has another u in another micro-batch."""
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-3
    alone, among = reference_scale(z[:, :1], 15.0), reference_scale(z, 15.0)[:, :1]
    assert not torch.allclose(minority_metric(alone).u, minority_metric(among).u)
    state = running(z, 3)
    alone, among = state.scale(z[:, :1], 3.75), state.scale(z, 3.75)[:, :1]
    assert torch.equal(minority_metric(alone).u, minority_metric(among).u)


def test_the_published_margin_is_inert_and_the_logit_margin_is_not() -> None:
    """Defect: u^2 / k and the mean of z_0 vanish beside k z of order 0.1 to 1."""
    u, mean_z0, k = torch.tensor([0.5]), 5e-4, 1000.0
    assert margin(u, mean_z0, k, 2, "published").abs().item() < 1e-3
    assert margin(u, mean_z0, k, 2, "logit").abs().item() > 0.1


def test_float32_shadows_move_where_half_precision_stands_still() -> None:
    """Defect: shadows in fp16, where an update far smaller than the weight is lost."""
    weight, moved = torch.ones(1), torch.full((1,), 1.001)
    decay = ema_decay(100_000, 0.9999)
    half = ema_update(weight.half(), moved.half(), decay)
    assert half.item() == 1.0
    shadow = weight
    for _ in range(100):
        shadow = ema_update(shadow, moved, decay)
    assert shadow.item() == pytest.approx(1 + 1e-3 * (1 - decay**100), abs=3e-6)


def test_metric_carries_no_gradient() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    assert not any(value.requires_grad for value in minority_metric(logits))
