from typing import Any

import pytest

from prefopt.config.train import TrainConfig
from prefopt.config.unused import unused_options

U = "train.objective.u"


def adaptive(**u: Any) -> dict[str, Any]:
    return {"objective": {"name": "adaptive_dpo", "u": u}}


@pytest.mark.parametrize(
    ("train", "fields"),
    [
        ({"optimizer": {"name": "adafactor", "clip": 1.0, "betas": (0.9, 0.99)}}, ["clip", "betas"]),
        ({"method": "full", "lora": {"rank": 4}}, ["lora"]),
        ({"guard": {"rate_factor": 0.25}}, ["rate_factor"]),
        (adaptive(normalise="reference", rho=2.0, warmup=3), ["rho", "warmup"]),
        (adaptive(rho_l2=2.0), ["rho_l2"]),
        (adaptive(normalise="global", decay=0.5, rho_l2=1.0), ["rho_l2", "decay"]),
        (adaptive(source="offline", ema={"slow": 0.5}, rho=1.0, rho_l2=1.0), ["rho", "rho_l2", "ema"]),
    ],
)
def test_what_has_no_effect_is_named(train: dict[str, Any], fields: list[str]) -> None:
    found = unused_options(TrainConfig.model_validate(train))
    assert [option.split(" ")[0].rsplit(".", 1)[1] for option in found] == fields


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"method": "full"},
        {"optimizer": {"name": "adafactor", "lr": 1e-4}},
        {"optimizer": {"clip": 0.5, "betas": (0.9, 0.99)}},
        {"lora": {"rank": 4}},
        {"guard": {"action": "roll_back", "rate_factor": 0.25}},
        adaptive(normalise="reference", rho_l2=2.0),
        adaptive(rho=2.0, warmup=3, decay=0.5, ema={"slow": 0.5}),
        adaptive(source="offline", decay=0.5),
    ],
)
def test_defaults_and_what_is_used_are_not_named(train: dict[str, Any]) -> None:
    assert unused_options(TrainConfig.model_validate(train)) == []


def test_the_reason_is_told() -> None:
    (found,) = unused_options(TrainConfig.model_validate({"guard": {"action": "pause", "rate_factor": 0.25}}))
    assert found == "train.guard.rate_factor (train.guard.action is pause)"
