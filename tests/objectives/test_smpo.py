import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES, PairErrors
from prefopt.objectives.smpo import Relabel, relabel, reward_preference

SMPO, DPO = OBJECTIVES["smpo"], OBJECTIVES["dpo"]
share = st.floats(0, 1)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_and_slope(z: float, alpha: torch.Tensor, gamma: float = 10.0) -> tuple[float, float]:
    """Loss and its derivative by z."""
    policy_l = tensor(z).requires_grad_()
    zero = tensor(0.0)
    value = SMPO(PairErrors(zero, policy_l, zero, zero, alpha=alpha), SMPO.Params(gamma=gamma)).loss
    (slope,) = torch.autograd.grad(value.sum(), policy_l)
    return value.item(), slope.item()


def test_worked_example() -> None:
    """k = 1000, z = 1e-3, alpha = 0.6, gamma = 10: factor 2, so -log sigma(2)."""
    value, _ = loss_and_slope(1e-3, tensor(0.6))
    assert value == pytest.approx(math.log(1 + math.exp(-2)))


@given(st.floats(-0.01, 0.01))
def test_alpha_one_half_gives_log_two_and_no_gradient(z: float) -> None:
    value, slope = loss_and_slope(z, tensor(0.5))
    assert value == pytest.approx(math.log(2))
    assert slope == 0.0


@given(st.floats(-0.01, 0.01), st.floats(0.51, 1.0))
def test_unit_factor_is_dpo(z: float, alpha: float) -> None:
    gamma = 1 / (2 * alpha - 1)
    errors = PairErrors(tensor(0.0), tensor(z), tensor(0.0), tensor(0.0), alpha=tensor(alpha))
    torch.testing.assert_close(
        SMPO(errors, SMPO.Params(gamma=gamma)).loss, DPO(errors, DPO.Params(beta=2000.0)).loss, rtol=1e-9, atol=1e-12
    )


@given(st.floats(-0.001, 0.001), share)
def test_human_order_with_free_alpha_equals_reward_order(z: float, p_reward: float) -> None:
    """Swapping a pair maps z to -z and alpha to 1 - alpha: loss stays, slope changes sign with z."""
    kept = loss_and_slope(z, tensor(p_reward))
    swapped = loss_and_slope(-z, 1 - tensor(p_reward))
    assert kept[0] == pytest.approx(swapped[0], rel=1e-9)
    assert kept[1] == pytest.approx(-swapped[1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("gap", "factor"), [(0.01, 0.30007), (0.05, 1.48961)])
def test_published_normalisation(gap: float, factor: float) -> None:
    alpha = reward_preference(tensor(0.2 + gap), tensor(0.2), 0.11543526500463486, 0.28201571106910706)
    assert 10 * (2 * alpha.item() - 1) == pytest.approx(factor, abs=5e-6)


def test_reward_preference_is_the_softmax_of_scaled_scores() -> None:
    scores = torch.tensor([[3.0, 1.0], [2.0, 5.0]], dtype=torch.float64)
    expected = ((scores - 1) / 4).softmax(dim=1)[:, 0]
    torch.testing.assert_close(reward_preference(scores[:, 0], scores[:, 1], 1.0, 5.0), expected)
    with pytest.raises(ValueError, match="low"):
        reward_preference(tensor(1.0), tensor(1.0), 2.0, 2.0)


def test_relabel_by_hand() -> None:
    p_reward, label = tensor(0.9, 0.2, 0.2, 0.9, 0.5, 0.7), tensor(1.0, 1.0, 0.0, 0.0, 1.0, 0.5)
    assert relabel("reward", p_reward, label).tolist() == p_reward.tolist()
    assert relabel("human_floor", p_reward, label).tolist() == [0.9, 0.5, 0.2, 0.5, 0.5, 0.5]
    assert relabel("blend", p_reward, label, 0.25).tolist() == pytest.approx([0.925, 0.4, 0.15, 0.675, 0.625, 0.65])


@given(share, share)
def test_blend_ends(p_reward: float, label: float) -> None:
    assert relabel("blend", tensor(p_reward), tensor(label), 0.0).item() == p_reward
    assert relabel("blend", tensor(p_reward), tensor(label), 1.0).item() == label


@given(st.floats(-0.01, 0.01), share)
def test_full_blend_is_dpo_of_factor_gamma(z: float, p_reward: float) -> None:
    alpha = relabel("blend", tensor(p_reward), tensor(1.0), 1.0)
    errors = PairErrors(tensor(0.0), tensor(z), tensor(0.0), tensor(0.0), alpha=alpha)
    dpo = DPO(errors, DPO.Params(beta=20_000.0)).loss
    torch.testing.assert_close(SMPO(errors, SMPO.Params(beta=2000.0, gamma=10.0)).loss, dpo)


@pytest.mark.parametrize("rule", ["reward", "human_floor", "blend"])
@given(share, share, share)
def test_relabel_stays_in_range_and_mirrors(rule: Relabel, p_reward: float, label: float, blend: float) -> None:
    alpha = relabel(rule, tensor(p_reward), tensor(label), blend)
    mirrored = relabel(rule, 1 - tensor(p_reward), 1 - tensor(label), blend)
    assert 0 <= alpha.item() <= 1
    # Below 1e-15, 1 - p rounds onto the tie.
    if abs(p_reward - 0.5) > 1e-15 and abs(label - 0.5) > 1e-15:
        assert mirrored.item() == pytest.approx(1 - alpha.item(), abs=1e-12)


@given(share, st.sampled_from([0.0, 1.0]))
def test_human_floor_never_pushes_against_the_label(p_reward: float, label: float) -> None:
    alpha = relabel("human_floor", tensor(p_reward), tensor(label)).item()
    assert (alpha - 0.5) * (label - 0.5) >= 0


def test_bad_relabel_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="relabel"):
        relabel("human", tensor(0.5), tensor(1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blend"):
        relabel("blend", tensor(0.5), tensor(1.0), 1.5)


def test_missing_alpha_is_named() -> None:
    zero = tensor(0.0)
    with pytest.raises(ValueError, match="alpha"):
        SMPO(PairErrors(zero, zero, zero, zero), SMPO.Params())
