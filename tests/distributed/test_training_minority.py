import math

import pytest
import torch

from prefopt.config.objective import AdaptiveDpoParams, MinorityConfig
from prefopt.distributed.training.minority import MinorityJudge, Window
from prefopt.minority.metric import minority_metric

Z = torch.tensor([[1e-3, -2e-3], [5e-4, 1e-3], [2e-3, -1e-3]])
OFFLINE = torch.tensor([0.25, 0.5])


def _judge(**options: object) -> MinorityJudge:
    return MinorityJudge(AdaptiveDpoParams(u=MinorityConfig(**options)))


def _window(z: torch.Tensor) -> Window:
    return Window(z.double().square().sum(1), float(z[0].double().sum()), z.shape[1])


def test_running_u_is_zero_during_warm_up_and_then_in_units_of_past_steps() -> None:
    judge = _judge(warmup=2, decay=0.5)
    for _ in range(2):
        judged = judge.judge(Z, None, None)
        assert judged.u.tolist() == [0.0, 0.0]
        assert judged.margin_mean == 0.0
        judge.update(_window(Z))
    rms = Z.double().square().mean(1).sqrt()
    expected = minority_metric(3.75 * (2 * Z.double()) / rms[:, None]).u
    judged = judge.judge(2 * Z, None, None)
    assert torch.allclose(judged.u.double(), expected, atol=1e-6)
    assert judged.margin_mean == pytest.approx(-5e-4)
    assert not judged.u.requires_grad


def test_global_u_does_not_depend_on_how_the_batch_is_split() -> None:
    judge = _judge(normalise="global")
    window = _window(Z)
    whole = judge.judge(Z, None, window).u
    parts = torch.cat([judge.judge(Z[:, i : i + 1], None, window).u for i in (0, 1)])
    assert torch.equal(whole, parts)
    rms = Z.double().square().mean(1).sqrt()
    assert torch.allclose(whole.double(), minority_metric(3.75 * Z.double() / rms[:, None]).u, atol=1e-6)
    assert judge.judge(Z, None, window).margin_mean == pytest.approx(-5e-4)


def test_reference_u_is_the_published_micro_batch_arithmetic() -> None:
    z = Z.double().tolist()
    expected = []
    for pair in range(2):
        a = [15 * row[pair] / math.hypot(*row) for row in z]
        pbar = sum(1 / (1 + math.exp(-x)) for x in a) / 3
        mean = sum(a) / 3
        std = math.sqrt(sum((x - mean) ** 2 for x in a) / 2)
        expected.append(abs(1 - pbar) * min(std, 1.0))
    judged = _judge(normalise="reference").judge(Z, None, None)
    assert judged.u.tolist() == pytest.approx(expected, rel=1e-5)
    assert judged.margin_mean == pytest.approx(-5e-4)


@pytest.mark.parametrize("normalise", ["running", "global", "reference"])
def test_policies_that_have_not_moved_give_zero_not_nan(normalise: str) -> None:
    judged = _judge(normalise=normalise, warmup=0).judge(torch.zeros(3, 4), None, _window(torch.zeros(3, 4)))
    assert judged.u.tolist() == [0.0] * 4


def test_sources() -> None:
    window = _window(Z)
    online = _judge(normalise="global").judge(Z, OFFLINE, window).u
    product = _judge(normalise="global", source="product").judge(Z, OFFLINE, window).u
    offline = _judge(normalise="global", source="offline").judge(Z[:1], OFFLINE, _window(Z[:1]))
    assert torch.allclose(product, online * OFFLINE)
    assert torch.equal(offline.u, OFFLINE)
    assert offline.online is None
    assert offline.margin_mean == pytest.approx(-5e-4)


def test_state_continues_exactly() -> None:
    first, second = _judge(warmup=0), _judge(warmup=0)
    first.update(_window(Z))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.judge(Z, None, None).u, second.judge(Z, None, None).u)
