from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.config.score import VisitConfig
from prefopt.config.train import LoraConfig, TrainConfig
from prefopt.data.visits import Example
from prefopt.features import FEATURE_VALUES
from prefopt.features.vae import GRID
from prefopt.models.size import unet_size
from prefopt.planning.amounts import StageWork
from prefopt.planning.counting import Counts
from prefopt.planning.flops import ForwardCosts, forward_costs
from prefopt.planning.gpus import choose_device
from prefopt.planning.hours import stage_time
from prefopt.planning.training_work import REFERENCE_BYTES, checkpoint_bytes
from prefopt.planning.work import STARTUP, Inputs, all_work, expected_latents
from tests.kit.data import small_config
from tests.kit.models import SIZE
from tests.kit.plans import planned

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
    forward = costs.unet(SIZE).total
    assert found.flops == 160 * (3 + 1) * forward + 80 * costs.prompt


def test_over_several_buckets_the_mean_counts(costs: ForwardCosts) -> None:
    sizes = (Size(32, 32), Size(32, 64))
    found = work(costs, "score", train=TRAIN, score={"buckets": [*sizes], "visits": {"inversion": "renoise"}})
    each = {item.what: item.flops for item in found.items}
    forwards = [costs.unet(size) for size in sizes]
    assert each[f"{FORWARD} to invert visits"] == pytest.approx(sum(f.total for f in forwards) / 2, abs=2)
    assert each["images through the VAE's encoder"] == sum(costs.encode(size) for size in sizes) / 2
    assert forwards[1].weights == pytest.approx(2 * forwards[0].weights, rel=0.05)


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
        ({"source": "online", "normalise": "global"}, 320, 160),
        ({"source": "offline", "normalise": "global"}, 0, 160),
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


def test_snapshots_judge_a_share_of_all_pairs_beside_the_reference(costs: ForwardCosts) -> None:
    """140 pairs, half of them, 3 draws: 210 draws of three UNets, two images each."""
    panel = {"rewards": ["world/style", "world/taste"], "snapshots": ["a", "b"], "snapshot_draws": 3}
    halved = {"panel": {**panel, "snapshot_share": 0.5}}
    found = work(costs, "score", train={**TRAIN, "precision": "bf16"}, score=halved)
    assert done(found)[f"{FORWARD} for policy snapshots"] == 210 * 3 * 2
    (item,) = (item for item in found.items if "snapshots" in item.what)
    assert item.precision == "bf16"
    assert done(found)["prompts through the text encoders"] == 630
    plain = {"panel": {"rewards": panel["rewards"]}}
    assert f"{FORWARD} for policy snapshots" not in done(work(costs, "score", train=TRAIN, score=plain))
    latents = [
        expected_latents(Inputs(config(train=TRAIN, score=score), counts(), costs))
        for score in (plain, halved, {"panel": panel})
    ]
    assert latents[2] == pytest.approx(2 * 140)
    assert latents[1] == pytest.approx((latents[0] + latents[2]) / 2)


def test_watching_draws_images_while_training(costs: ForwardCosts) -> None:
    watched = {"every": 4, "prompts": 3, "reward": "world/true", "sampler": {"steps": 6, "guidance": 3.0}}
    train = {**TRAIN, "health": {"evaluation": {**watched, "sampler": {**watched["sampler"], "resolution": 32}}}}
    found = done(work(costs, "train", train=train))
    assert found[f"{FORWARD} to draw images"] == 3 * (1 + 2) * 6 * 2


def test_evaluation_draws_from_both_models_with_and_without_the_prompt(costs: ForwardCosts) -> None:
    evaluate = {
        "prompt_sets": [{"kind": "heldout", "most": 15}],
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


def test_evaluation_draws_from_every_model_that_the_config_adds(costs: ForwardCosts) -> None:
    """4 models, 15 prompts, 2 samples: 120 images; the accuracy stays base's and tuned model's."""
    evaluate = {
        "prompt_sets": [{"kind": "heldout", "most": 15}],
        "models": {"old": "a/b", "other": "c/d"},
        "samples_per_prompt": 2,
        "sampler": {"steps": 7, "guidance": 3.0, "resolution": 32},
        "accuracy": {"pairs": 12, "draws": 3},
    }
    work_of = work(costs, "evaluate", evaluate=evaluate)
    found, written = done(work_of), {write.what: write for write in work_of.writes}
    assert found[f"{FORWARD} to draw images"] == 120 * 7 * 2
    assert found["images scored by world/true"] == found["images through the VAE's decoder"] == 120
    assert found["prompts of images through the text encoders"] == 240
    assert found[f"{FORWARD} for the held-out accuracy"] == 12 * 3 * 2 * 2
    pictures = 120 * 1.7 * 32 * 32
    assert written["images and scores"].nbytes == pytest.approx(pictures + 120 * 50)
    assert written["images for later evaluations"].nbytes == pytest.approx(pictures)
    assert written["images for later evaluations"].where == "store"


@pytest.mark.parametrize(
    ("features", "flops", "precision", "nbytes"),
    [
        ({"kind": "vae"}, None, "fp32", 30 * 4 * 256),
        ({"kind": "clip"}, 0.162e12, "bf16", 30 * 4 * 768),
        ({"kind": "dinov2"}, 0.046e12, "bf16", 30 * 4 * 768),
    ],
)
def test_features_take_every_drawn_image_once(
    costs: ForwardCosts, features: dict[str, Any], flops: float | None, precision: str, nbytes: int
) -> None:
    evaluate = {"prompt_sets": [{"kind": "heldout", "most": 15}], "samples_per_prompt": 1, "features": features}
    evaluate["sampler"] = {"resolution": 64}
    found = work(costs, "evaluate", evaluate=evaluate, rewards={"precision": "bf16"})
    (item,) = (item for item in found.items if "features" in item.what)
    assert (item.what, item.count) == (f"images through the features {features['kind']}", 30)
    assert item.flops == (flops or costs.encode(Size(64, 64)))
    assert item.precision == precision
    (write,) = (write for write in found.writes if "features" in write.what)
    assert (write.nbytes, write.where) == (nbytes, "run")
    without = work(costs, "evaluate", evaluate={**evaluate, "features": None})
    assert not [made for made in (*without.items, *without.writes) if "features" in made.what]


def test_a_row_of_the_vaes_features_is_its_latent_on_the_grid(costs: ForwardCosts) -> None:
    assert FEATURE_VALUES["vae"] == costs.channels * GRID**2


def test_pndm_asks_once_more(costs: ForwardCosts) -> None:
    def asked(scheduler: str, steps: int) -> float:
        sampler = {"scheduler": scheduler, "steps": steps, "guidance": 1.0, "resolution": 32}
        evaluate = {"prompt_sets": [{"kind": "heldout", "most": 1}], "samples_per_prompt": 1, "sampler": sampler}
        return done(work(costs, "evaluate", evaluate=evaluate))[f"{FORWARD} to draw images"]

    assert [asked("pndm", 7), asked("euler", 7), asked("pndm", 1)] == [16, 14, 2]


def test_evaluation_draws_each_prompt_of_several_sets_once(costs: ForwardCosts, tmp_path: Path) -> None:
    for name, prompts in (("a", "x\ny\nz"), ("b", "z\nw")):
        (tmp_path / f"{name}.txt").write_text(prompts)
    sets = [{"kind": "file", "name": name, "path": str(tmp_path / f"{name}.txt")} for name in "ab"]
    evaluate = {"prompt_sets": [*sets, {"kind": "heldout", "most": 5}], "samples_per_prompt": 1}
    assert done(work(costs, "evaluate", evaluate=evaluate))["images scored by world/true"] == 2 * (4 + 5)
    assert done(work(costs, "evaluate", evaluate={"prompt_sets": sets}))["images scored by world/true"] == 2 * 4


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
    assert trained["the tuned model"] == 2 * size + 4 * costs.frozen_parameters
    stored = {write.what: write.nbytes for write in work(costs, "score", train=train, score=score).writes}
    assert stored["inverted latents"] == 2 * 80 * 2 * costs.latent_values(SIZE)
    wide = {"latent_dtype": "float32", "buckets": [[32, 32], [32, 64]]}
    stored = {write.what: write.nbytes for write in work(costs, "score", train=train, score=score | wide).writes}
    assert stored["inverted latents"] == 2 * 80 * 4 * 1.5 * costs.latent_values(SIZE)


@pytest.mark.parametrize(
    ("zero", "precision", "width"),
    [(0, "fp32", 12), (1, "fp32", 16), (3, "fp32", 12), (0, "bf16", 14), (2, "bf16", 14), (3, "bf16", 12)],
)
def test_a_checkpoint_is_what_deepspeed_stores(costs: ForwardCosts, zero: int, precision: str, width: int) -> None:
    size = unet_size(costs.empty_unet, LoraConfig())
    train = TrainConfig(method="full", zero=zero, precision=precision)
    assert checkpoint_bytes(size, train) == width * size.total
    if zero == 0:
        adafactor = TrainConfig(method="full", precision=precision, optimizer={"name": "adafactor"})
        assert checkpoint_bytes(size, adafactor) == (width - 8) * size.total + 4 * size.factored


@pytest.mark.parametrize(("objective", "ahead"), [("kto", 160), ("dro_dpo", 160), ("dpo", 0)])
def test_a_mean_over_the_batch_asks_the_policy_once_more(costs: ForwardCosts, objective: str, ahead: int) -> None:
    found = done(work(costs, "train", train={**TRAIN, "objective": {"name": objective}}))
    assert found.get(f"{FORWARD} to look ahead at each step's pairs", 0) == ahead


def test_visits_inverted_again_are_stored(costs: ForwardCosts) -> None:
    score = {"visits": {"inversion": "renoise", "steps": 2}}
    train = {**TRAIN, "reference": "cached", "refresh": {"every": 5, "visits": 4}}
    always = work(costs, "train", train={**train, "refresh": {**train["refresh"], "above": 0.0}}, score=score)
    stored = {write.what: write.nbytes for write in always.writes}
    assert stored["latents inverted again"] == 2 * 80 * 2 * costs.latent_values(SIZE)
    assert stored["their reference errors"] == 80 * REFERENCE_BYTES
    assert done(always)[f"{FORWARD} for their reference errors"] == 160
    measured = work(costs, "train", train=train, score=score)
    assert {write.what for write in measured.writes}.isdisjoint({"latents inverted again", "their reference errors"})


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
    plan = planned(examples, visits, VisitConfig(flip=flip)).visits
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
