"""Properties that every objective has."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES, PairErrors
from tests.objectives.pairs import COLUMNS, close_table, evaluate, global_means, make, random_table

error = st.floats(0, 2, width=32)
pair = st.tuples(*[error] * 4, *[st.floats(0, 1)] * 5)
tables = st.lists(pair, min_size=1, max_size=6).map(lambda rows: torch.tensor(rows, dtype=torch.float64).T)
every = pytest.mark.parametrize("name", OBJECTIVES)
WITHOUT_LOSER = {"sft"}
WITHOUT_REFERENCE = {"sft", "mapo"}
LN_2_AT_REST = {"dpo", "cdpo", "rdpo", "adaptive_dpo", "smpo", "inpo", "dpo_budget", "dro_dpo", "weighted_dpo"}


def losses(name: str, *parts: torch.Tensor) -> list[torch.Tensor]:
    """The losses of a global batch in parts, each part with the means over all of them."""
    params = OBJECTIVES[name].Params()
    means = global_means(name, [make(part) for part in parts], params)
    return [OBJECTIVES[name](make(part, means=means), params).loss for part in parts]


@every
@given(tables)
@settings(max_examples=30)
def test_one_batch_of_n_equals_n_batches_of_one(name: str, table: torch.Tensor) -> None:
    (whole,) = losses(name, table)
    assert whole.shape == (table.shape[1],)
    torch.testing.assert_close(torch.cat(losses(name, *table.split(1, dim=1))), whole, rtol=1e-9, atol=1e-12)


@every
@given(tables)
@settings(max_examples=30)
def test_permuting_pairs_permutes_the_result(name: str, table: torch.Tensor) -> None:
    (whole,), (flipped,) = losses(name, table), losses(name, table.flip(1))
    torch.testing.assert_close(flipped, whole.flip(0), rtol=1e-9, atol=1e-12)


@every
@given(tables, st.integers(0, 6))
@settings(max_examples=30)
def test_ranks_weighted_by_pair_count_give_the_single_process_mean(name: str, table: torch.Tensor, cut: int) -> None:
    parts = [part for part in (table[:, :cut], table[:, cut:]) if part.shape[1]]
    mean = sum(loss.mean() * loss.numel() for loss in losses(name, *parts)) / table.shape[1]
    torch.testing.assert_close(mean, losses(name, table)[0].mean(), rtol=1e-9, atol=1e-12)


@every
def test_splitting_changes_no_gradient(name: str) -> None:
    table = close_table(12)

    def slopes(*sizes: int) -> torch.Tensor:
        params = OBJECTIVES[name].Params()
        parts = table.split(list(sizes), dim=1)
        means = global_means(name, [make(part) for part in parts], params)
        policies = [part[:2].clone().requires_grad_() for part in parts]
        for part, policy in zip(parts, policies, strict=True):
            errors = make(part, policy_w=policy[0], policy_l=policy[1], means=means)
            torch.autograd.backward(OBJECTIVES[name](errors, params).loss.sum() / 12)
        return torch.cat([policy.grad for policy in policies if policy.grad is not None], dim=1)

    assert float(slopes(12).abs().min(dim=1).values[0]) > 1e-6
    for sizes in ((4, 4, 4), (1, 11), (6, 1, 5)):
        torch.testing.assert_close(slopes(*sizes), slopes(12), rtol=1e-9, atol=1e-12)


@every
def test_policy_equal_to_reference_has_ties_only(name: str) -> None:
    w, loser = torch.tensor([0.1, 0.7]), torch.tensor([0.4, 0.2])
    side = {"alpha": torch.full((2,), 0.8), "u": torch.zeros(2), "label": torch.ones(2), "margin_mean": 0.0}
    result = evaluate(name, PairErrors(w, loser, w, loser, **side))
    if name in LN_2_AT_REST:
        torch.testing.assert_close(result.loss, torch.full((2,), 2.0).log())
    if name not in WITHOUT_REFERENCE:
        assert torch.as_tensor(result.metrics["accuracy"]).tolist() == [0.5, 0.5]
        assert torch.as_tensor(result.metrics["logit"]).tolist() == [0.0, 0.0]


@every
def test_gradient_reaches_the_policy_alone(name: str) -> None:
    leaves = {key: row.clone().requires_grad_() for key, row in zip(COLUMNS, random_table(4).float(), strict=True)}
    mean = torch.tensor(0.01, requires_grad=True)
    params = OBJECTIVES[name].Params()
    errors = PairErrors(**leaves, margin_mean=mean)
    statistics = {key: function(errors, params) for key, function in OBJECTIVES[name].means.items()}
    for value in statistics.values():
        assert (value.shape, value.dtype, value.requires_grad) == ((4,), torch.float64, False)
    errors = dataclasses.replace(errors, means={key: float(value.mean()) for key, value in statistics.items()})
    result = OBJECTIVES[name](errors, params)
    torch.autograd.backward(result.loss.sum())
    reached = {key for key, leaf in [*leaves.items(), ("margin_mean", mean)] if leaf.grad is not None}
    assert reached == ({"policy_w"} if name in WITHOUT_LOSER else {"policy_w", "policy_l"})
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in result.metrics.values())


@every
def test_a_better_winner_never_raises_the_loss_at_rest(name: str) -> None:
    """The slope by the winner's error is at least 0 where the policy is the reference, and above 0 but for a tie."""
    w = torch.tensor([0.3, 0.5]).double().requires_grad_()
    side = {"alpha": torch.full((2,), 0.8), "u": torch.full((2,), 0.3), "label": torch.ones(2), "margin_mean": 0.0}
    errors = PairErrors(w, torch.tensor([0.4, 0.2]).double(), w.detach(), torch.tensor([0.4, 0.2]).double(), **side)
    (slope,) = torch.autograd.grad(evaluate(name, errors).loss.sum(), w)
    assert (slope > 0).all()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_extreme_errors_give_finite_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    edge = torch.tensor([0.0, 1e-30, 1.0, 1e6])
    policy_w, policy_l, alpha, u = torch.cartesian_prod(
        edge, edge, torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 1.0])
    ).T
    policy = [value.to(dtype).requires_grad_() for value in (policy_w, policy_l)]
    zero = torch.zeros_like(policy[0])
    side = {"alpha": alpha, "u": u, "label": alpha, "weight": u, "margin": u, "margin_mean": torch.tensor(1e6)}
    errors = PairErrors(policy[0], policy[1], zero, zero, **side)
    means = global_means(name, [errors], OBJECTIVES[name].Params())
    for supplied in ({}, means, dict.fromkeys(means, 1.0)):
        result = evaluate(name, dataclasses.replace(errors, means=supplied))
        gradients = torch.autograd.grad(result.loss.sum(), policy, allow_unused=name in WITHOUT_LOSER)
        assert result.loss.dtype == torch.promote_types(dtype, torch.float32)
        for value in [result.loss, *gradients, *result.metrics.values()]:
            assert value is None or torch.as_tensor(value).isfinite().all()


@every
def test_metrics_are_per_pair(name: str) -> None:
    metrics = evaluate(name, make(random_table(5))).metrics
    assert {"accuracy", "error_w", "error_l", "drift_w", "drift_l"} <= set(metrics)
    assert ("logit" in metrics) == (name != "sft")
    assert all(torch.as_tensor(value).shape == (5,) for value in metrics.values())


@every
def test_needs_name_all_that_is_read(name: str) -> None:
    """With nothing else given it runs, and a reference that it does not need plays no part."""
    needs = {"reference_w", "reference_l"} if "reference" in OBJECTIVES[name].needs else set()
    needs |= OBJECTIVES[name].needs - {"reference"}
    full = make(random_table(3))
    others = set(COLUMNS[2:]) | {"margin_mean"}
    bare = dataclasses.replace(full, **dict.fromkeys(others - needs))
    assert torch.equal(evaluate(name, bare).loss, evaluate(name, full).loss)
    assert ("reference" in OBJECTIVES[name].needs) == (name not in WITHOUT_REFERENCE)
