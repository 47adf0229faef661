from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.config.root import ModelConfig
from prefopt.config.score import VisitConfig
from prefopt.data.visits import Example, plan_visits
from prefopt.planning.amounts import StageWork
from prefopt.planning.counting import Counts
from prefopt.planning.flops import ForwardCosts, forward_costs
from prefopt.planning.gpus import choose_device
from prefopt.planning.hours import stage_time
from prefopt.planning.work import STARTUP, Inputs, all_work, expected_latents
from tests.kit.data import small_config

FORWARD = "UNet forwards"


@pytest.fixture(scope="module")
def costs() -> ForwardCosts:
    return forward_costs(ModelConfig(path="world"))


def counts(train: int = 100, held_out: int = 20, **changes: Any) -> Counts:
    pairs = train + 2 * held_out
    by_split = {"train": train, "validation": held_out, "test": held_out}
    known: dict[str, Any] = {"votes": pairs, "pairs": pairs, "images": 2 * pairs, "prompts": None, **changes}
    return Counts(by_split=by_split, source="a test", exact=True, **known)


def config(**branches: Any) -> RunConfig:
    return small_config(Path("place"), [{"kind": "world"}], **branches)


def work(costs: ForwardCosts, stage: str, given: Counts | None = None, **branches: Any) -> StageWork:
    return all_work(config(**branches), given or counts(), costs)[stage]


def done(found: StageWork) -> dict[str, float]:
    return {item.what: item.count for item in found.items}


TRAIN = {"steps": 10, "global_batch": 8, "micro_batch": 4}


def test_plain_dpo_asks_policy_and_reference_once_for_each_image(costs: ForwardCosts) -> None:
    found = work(costs, "train", train={**TRAIN, "method": "full"})
    assert done(found) == {
        f"{FORWARD} and backwards of the policy": 160,
        f"{FORWARD} of the reference": 160,
        "prompts through the text encoders": 80,
    }
    forward = costs.unet(32).total
    assert found.flops == 160 * (3 + 1) * forward + 80 * costs.prompt


def test_a_refresh_inverts_again(costs: ForwardCosts) -> None:
    """Ten steps hold four measurements of five visits; each image takes 2 levels x 2 forwards."""
    score = {"visits": {"inversion": "renoise", "steps": 2}}
    refresh = {"every": 3, "visits": 5}
    what = f"{FORWARD} to invert visits again"
    measured = work(costs, "train", train={**TRAIN, "refresh": refresh}, score=score)
    assert done(measured)[what] == 2 * 4 * 5 * 4
    always = work(costs, "train", train={**TRAIN, "refresh": {**refresh, "above": 0.0}}, score=score)
    assert done(always)[what] == 2 * (4 * 5 + 80) * 4
    assert what not in done(work(costs, "train", train=TRAIN, score=score))


def test_a_cached_reference_moves_its_forwards_to_score(costs: ForwardCosts) -> None:
    train = {**TRAIN, "reference": "cached", "precision": "bf16"}
    assert f"{FORWARD} of the reference" not in done(work(costs, "train", train=train))
    (item,) = [i for i in work(costs, "score", train=train).items if i.what == f"{FORWARD} for reference errors"]
    assert (item.count, item.precision) == (160, "bf16")


@pytest.mark.parametrize(
    ("u", "averages", "ahead"),
    [
        ({"source": "online"}, 320, 0),
        ({"source": "online", "normalise": "global"}, 320, 160 * 4),
        ({"source": "offline", "normalise": "global"}, 0, 160 * 2),
        ({"source": "offline"}, 0, 0),
    ],
)
def test_online_annotators_cost_two_forwards_more(
    costs: ForwardCosts, u: dict[str, Any], averages: int, ahead: int
) -> None:
    train = {**TRAIN, "objective": {"name": "adaptive_dpo", "u": u}}
    panel = {"panel": {"rewards": ["world/taste", "world/style"]}}
    found = done(work(costs, "train", train=train, score=panel))
    assert found.get(f"{FORWARD} of the slow and fast averages", 0) == averages
    assert found.get(f"{FORWARD} to look ahead at each step's pairs", 0) == ahead


def test_inversion_is_levels_times_renoising(costs: ForwardCosts) -> None:
    visits = {"inversion": "renoise", "steps": 5, "renoise_steps": 2}
    found = done(work(costs, "score", train=TRAIN, score={"visits": visits}))
    assert found[f"{FORWARD} to invert visits"] == 80 * 2 * 5 * 3
    assert f"{FORWARD} to invert visits" not in done(work(costs, "score", train=TRAIN))


def test_watching_draws_images_while_training(costs: ForwardCosts) -> None:
    watched = {"every": 4, "prompts": 3, "reward": "world/true", "sampler": {"steps": 6, "guidance": 3.0}}
    train = {**TRAIN, "health": {"evaluation": {**watched, "sampler": {**watched["sampler"], "resolution": 32}}}}
    found = done(work(costs, "train", train=train))
    assert found[f"{FORWARD} to draw images"] == 3 * (1 + 2) * 6 * 2


def test_evaluation_draws_from_both_models_with_and_without_the_prompt(costs: ForwardCosts) -> None:
    evaluate = {
        "prompts": 15,
        "samples_per_prompt": 2,
        "sampler": {"steps": 7, "guidance": 3.0, "resolution": 32},
        "accuracy": {"pairs": 12, "draws": 3},
    }
    found = done(work(costs, "evaluate", evaluate=evaluate))
    assert found[f"{FORWARD} to draw images"] == 2 * 15 * 2 * 7 * 2
    assert found["images through the VAE's decoder"] == 60
    assert found["images scored by world/true"] == 60
    assert found[f"{FORWARD} for the held-out accuracy"] == 12 * 3 * 2 * 2
    known = counts(prompts={"test": 9})
    unguided = {**evaluate, "sampler": {"steps": 7, "guidance": 1.0, "resolution": 32}}
    found = done(work(costs, "evaluate", known, evaluate=unguided))
    assert found[f"{FORWARD} to draw images"] == 2 * 9 * 2 * 7


def test_the_data_card_shows_at_most_all_pairs(costs: ForwardCosts) -> None:
    found = work(costs, "card", counts(train=5, held_out=1), card={"pairs": 24})
    assert done(found) == {"votes counted": 7, "images shown at most": 14}
    assert done(work(costs, "card", card={"pairs": 24}))["images shown at most"] == 48
    assert "images shown at most" not in done(work(costs, "card", card={"pairs": 0}))
    assert found.flops == 0


def test_what_is_written(costs: ForwardCosts) -> None:
    train = {**TRAIN, "method": "full", "precision": "bf16", "checkpoint_every": 4}
    score = {"visits": {"inversion": "renoise"}}
    trained = {write.what: write.nbytes for write in work(costs, "train", train=train).writes}
    size = sum(parameter.numel() for parameter in costs.empty_unet.parameters())
    checkpoint = size * (2 + 4 + 8)
    assert trained[f"3 checkpoints of {checkpoint / 1e9:.2f} GB"] == 3 * checkpoint
    assert trained["the tuned model"] == 4 * (size + costs.frozen_parameters)
    stored = {write.what: write.nbytes for write in work(costs, "score", train=train, score=score).writes}
    assert stored["inverted latents"] == 2 * 80 * 4 * costs.latent_values(32)


def test_gap_flips_need_rewards_before_score(costs: ForwardCosts) -> None:
    flips = {"flips": [{"kind": "gap", "rate": 0.2, "reward": "world/style"}]}
    score = {"panel": {"rewards": ["world/taste", "world/style"]}}
    scored = "images scored by world/style"
    assert scored in done(work(costs, "inject", inject=flips, score=score))
    assert scored not in done(work(costs, "score", inject=flips, score=score))


@pytest.mark.parametrize("flip", [0.0, 0.3])
@pytest.mark.parametrize("visits", [40, 100, 250, 2000])
def test_expected_latents_are_those_of_a_real_plan(costs: ForwardCosts, flip: float, visits: int) -> None:
    examples = [Example(f"pair {n}", f"vote {n}", 0, 1, 1.0, f"image {n} a", f"image {n} b") for n in range(100)]
    plan = plan_visits(examples, visits, VisitConfig(flip=flip), 1000)
    real = len({*plan["latent_key_0"].to_pylist(), *plan["latent_key_1"].to_pylist()})
    train = {"steps": visits // 10, "global_batch": 10, "micro_batch": 5}
    inputs = Inputs(config(train=train, score={"visits": {"flip": flip}}), counts(held_out=0), costs)
    assert expected_latents(inputs) == pytest.approx(real, rel=0.05)
    with_others = Inputs(inputs.config, counts(held_out=20), costs)
    assert expected_latents(with_others) == pytest.approx(expected_latents(inputs) + 80)


def test_time_is_what_is_fixed_and_flops_over_speed(costs: ForwardCosts) -> None:
    tree = config(train={**TRAIN, "method": "full", "precision": "bf16", "workers": 2})
    device, _ = choose_device(tree, "A100-80GB")
    found = all_work(tree, counts(), costs)["train"]
    time = stage_time(found, device, tree.cluster)
    assert time.gpus == 2
    assert time.seconds.assumed == pytest.approx(STARTUP["train"] + found.flops / (2 * 0.2 * 312e12))
    assert time.seconds.low < time.seconds.assumed < time.seconds.high
    assert time.gpu_seconds == 2 * time.seconds.assumed


def test_workers_that_share_a_gpu_share_its_speed(costs: ForwardCosts) -> None:
    halves, wholes = (config(cluster={"workers": 2, "worker_gpus": share}, train=TRAIN) for share in (0.5, 1.0))
    device, _ = choose_device(wholes, "T4")
    shared, whole = (
        stage_time(all_work(tree, counts(train=100_000), costs)["score"], device, tree.cluster)
        for tree in (halves, wholes)
    )
    assert (shared.gpus, whole.gpus) == (1, 2)
    assert shared.seconds.assumed > whole.seconds.assumed


def test_ingest_inject_and_card_hold_no_gpu(costs: ForwardCosts) -> None:
    tree = config(cluster={"worker_gpus": 1.0})
    device, _ = choose_device(tree, "T4")
    times = {name: stage_time(stage, device, tree.cluster) for name, stage in all_work(tree, counts(), costs).items()}
    assert [name for name, time in times.items() if not time.gpus] == ["ingest", "inject", "card"]
