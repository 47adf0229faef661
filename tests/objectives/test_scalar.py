"""Values and gradients against the scalar re-implementation, over random inputs."""

from typing import Any

import pytest
import torch

from prefopt.objectives import OBJECTIVES
from tests.objectives.pairs import MARGIN_MEAN, evaluate, global_means, make, random_table
from tests.objectives.scalar import SCALAR, Pair

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("sft", {}),
    ("dpo", {}),
    ("ipo", {"form": "published"}),
    ("ipo", {"form": "published", "tau": 3.0}),
    ("ipo", {"form": "logit"}),
    ("cdpo", {}),
    ("cdpo", {"epsilon": 0.3}),
    ("rdpo", {}),
    ("rdpo", {"epsilon": 0.4}),
    *[
        ("adaptive_dpo", {"weight": weight, "margin": margin, "margin_scale": scale})
        for weight, margin, scale in [
            ("linear", "quadratic", "published"),
            ("quadratic", "linear", "logit"),
            ("sqrt", "none", "published"),
            ("sigmoid", "quadratic", "logit"),
        ]
    ],
    *[
        ("adaptive_ipo", {"form": form, "margin": margin, "margin_scale": scale, "weight_factor": 3.0})
        for form in ("published", "logit")
        for margin, scale in [("quadratic", "published"), ("linear", "logit"), ("none", "published")]
    ],
    ("smpo", {}),
    ("smpo", {"gamma": 0.7}),
    ("kto", {}),
    ("kto", {"utility": "loss_averse", "weight_w": 0.5}),
    ("kto", {"utility": "risk_seeking", "weight_l": 2.0}),
    ("mapo", {}),
    ("mapo", {"ranking": 2.0, "scale": 3.0, "timesteps": 7}),
    ("inpo", {}),
    ("dmpo", {}),
    ("dmpo", {"epsilon": 0.2}),
    ("dpo_budget", {}),
    ("dpo_budget", {"penalty": 3.0, "budget": 0.1}),
    ("dro_dpo", {}),
    ("dro_dpo", {"temperature": 0.3, "calibration": "weight"}),
    ("weighted_dpo", {}),
    ("weighted_dpo", {"use": ("weight",)}),
    ("weighted_dpo", {"use": ("weight", "label", "margin")}),
]
variants = pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
SMALL_BETA = 3.0
STEP = 1e-5


def settings(name: str, params: dict[str, Any], beta: float | None) -> Any:
    Params = OBJECTIVES[name].Params
    return Params(**params, beta=beta) if beta and "beta" in Params.model_fields else Params(**params)


def scalar_losses(name: str, table: torch.Tensor, params: Any, means: dict[str, float]) -> torch.Tensor:
    pairs = [Pair(*row, margin_mean=MARGIN_MEAN, means=means) for row in table.T.tolist()]
    return torch.tensor([SCALAR[name](pair, params) for pair in pairs], dtype=torch.float64)


def test_every_objective_has_a_scalar_twin() -> None:
    assert set(SCALAR) == set(OBJECTIVES) == {name for name, _ in VARIANTS}


@variants
@pytest.mark.parametrize("beta", [None, SMALL_BETA])
@pytest.mark.parametrize("with_means", [False, True])
def test_values(name: str, params: dict[str, Any], beta: float | None, with_means: bool) -> None:
    """At the default beta the gaps are those of training, 1e-3; at a small beta of any size."""
    p, table = settings(name, params, beta), random_table(200)
    if beta is None:
        table[:4] = 0.1 + 1e-3 * table[:4]
    means = global_means(name, [make(table)], p) if with_means else {}
    loss = OBJECTIVES[name](make(table, means=means), p).loss
    torch.testing.assert_close(loss, scalar_losses(name, table, p, means), rtol=1e-6, atol=1e-12)
    assert loss.dtype == torch.float64


@variants
def test_gradients(name: str, params: dict[str, Any]) -> None:
    """By central differences of the scalar code. W of dro_dpo is held, as it carries no gradient."""
    p, table = settings(name, params, SMALL_BETA), random_table(100, seed=1)
    policy = table[:2].clone().requires_grad_()
    loss = OBJECTIVES[name](make(table, policy_w=policy[0], policy_l=policy[1]), p).loss
    (slope,) = torch.autograd.grad(loss.sum(), policy)
    for row in (0, 1):
        up, down = table.clone(), table.clone()
        up[row] += STEP
        down[row] -= STEP
        expected = (scalar_losses(name, up, p, {}) - scalar_losses(name, down, p, {})) / (2 * STEP)
        torch.testing.assert_close(slope[row], expected, rtol=1e-6, atol=1e-6)


@variants
def test_gradcheck(name: str, params: dict[str, Any]) -> None:
    p, table = settings(name, params, SMALL_BETA), random_table(6, seed=2)
    means = {key: 1.05 for key in OBJECTIVES[name].means} if name != "dro_dpo" else {}

    def loss(policy_w: torch.Tensor, policy_l: torch.Tensor) -> torch.Tensor:
        return OBJECTIVES[name](make(table, policy_w=policy_w, policy_l=policy_l, means=means), p).loss

    assert torch.autograd.gradcheck(loss, [table[i].clone().requires_grad_() for i in (0, 1)])


@variants
def test_float32_agrees_where_training_takes_place(name: str, params: dict[str, Any]) -> None:
    table = random_table(50, seed=3)
    table[:4] = (0.1 + 1e-3 * table[:4]).float().double()
    exact = evaluate(name, make(table), **params).loss
    single = evaluate(name, make(table.float()), **params).loss
    torch.testing.assert_close(single.double(), exact, rtol=2e-4, atol=2e-4)
