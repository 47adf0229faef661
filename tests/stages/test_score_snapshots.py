"""Policy snapshots on the panel: the score stage on the embedded world, from weights to u."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from prefopt.config import RunConfig
from prefopt.data.framing import Framing
from prefopt.data.labels import TIE
from prefopt.data.scales import read_scales
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.data.visits import visit_noise
from prefopt.diffusion import add_noise, denoising_error
from prefopt.distributed.stores import latent_stores
from prefopt.minority import minority_metric
from prefopt.models.families import predict
from prefopt.models.identity import EMBEDDED_CHECKPOINT
from prefopt.models.loading import load_pipeline, noise_schedule
from prefopt.models.sources import snapshot_weights, training_weights
from prefopt.models.unets import load_unet
from prefopt.scoring.panel import snapshot_name
from prefopt.scoring.snapshots import in_sample, plan_draws
from prefopt.stages.base import StageOutput
from prefopt.stages.score import NUM_TIMESTEPS
from prefopt.world.dataset import write_dataset
from tests.kit.data import run_stages, small_config, table
from tests.kit.models import conditioning_of
from tests.kit.weights import lora_directory

STAGES = ("ingest", "inject", "score")
REWARDS = ("world/fidelity", "world/style")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 24 pairs, a LoRA snapshot, and a full one whose UNet differs a little from the world's."""
    root = tmp_path_factory.mktemp("snapshots")
    write_dataset(root / "data", pairs=24, seed=0, repeated=0.5)
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED_CHECKPOINT, subfolder="unet")
    lora_directory(root / "lora", unet)
    shutil.copytree(EMBEDDED_CHECKPOINT, root / "full")
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED_CHECKPOINT, subfolder="unet")
    torch.nn.init.zeros_(unet.conv_out.bias)
    unet.save_pretrained(root / "full" / "unet")
    return root


def config_of(place: Path, store: Path, *, engine: str = "process", labels: Any = None, **panel: Any) -> RunConfig:
    source = {"kind": "pickapic", "path": str(place / "data"), "group_column": "user_group"}
    snapshots = [str(place / "lora"), str(place / "full")]
    return small_config(
        store,
        [source],
        labels=labels or {},
        score={
            "panel": {"rewards": REWARDS, "snapshots": snapshots, "snapshot_draws": 2, **panel},
            "visits": {"batch": 4},
        },
        cluster={"engine": engine},
    )


@pytest.fixture(scope="module")
def ran(place: Path) -> tuple[RunConfig, dict[str, StageOutput]]:
    config = config_of(place, place)
    return config, run_stages(config, place / "run", STAGES)


def test_a_margin_is_the_implicit_preference_by_hand(
    ran: tuple[RunConfig, dict[str, StageOutput]],
) -> None:
    """One pair, in plain torch: the mean over its draws, in units of the training pairs' root mean square."""
    config, outputs = ran
    assert config.score.panel is not None
    pairs = read_tables(outputs["ingest"], "pairs-")
    framing = Framing.of(config.score.sizes, read_tables(outputs["ingest"], "images-"))
    draws = plan_draws(pairs, config.score.panel, NUM_TIMESTEPS, framing).to_pylist()[6:8]
    (pair,) = {draw["pair_id"] for draw in draws}
    prompt = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))[pair]
    pipeline = load_pipeline(config.model, vae=None)
    told = conditioning_of(pipeline, [prompt])
    (size,) = config.score.sizes
    latents = latent_stores(Storage(config.store), config)[size]
    latents.refresh()
    policy = load_unet(snapshot_weights(config)[0], training_weights(config).base)

    def error(unet: Any, draw: dict[str, Any], side: int) -> float:
        x0 = torch.from_numpy(latents.latents([draw[f"latent_key_{side}"]], "x0"))
        noise = torch.from_numpy(visit_noise(draw["visit_id"], x0.shape[1:]))[None]
        t = torch.tensor([draw["t_0"]])
        with torch.no_grad():
            predicted = predict(unet, add_noise(x0, noise, t, noise_schedule(pipeline)), t, told)
        return float(denoising_error(predicted, noise))

    drops = [[error(pipeline.unet, draw, side) - error(policy, draw, side) for side in (0, 1)] for draw in draws]
    z = float(np.mean([first - second for first, second in drops]))
    scales = read_scales(outputs["score"].storage)
    name = snapshot_name(snapshot_weights(config)[0].digest)
    assert scales.annotators[2] == name
    found = {row["pair_id"]: row for row in table(outputs["score"], "scores-")}[pair]
    assert found["margins"][2] == pytest.approx(3.75 * z / scales.snapshots[name], rel=1e-3)


def test_every_pair_has_every_annotator_and_their_verdict(ran: tuple[RunConfig, dict[str, StageOutput]]) -> None:
    config, outputs = ran
    scales, manifest = read_scales(outputs["score"].storage), outputs["score"].manifest
    names = [snapshot_name(source.digest) for source in snapshot_weights(config)]
    assert scales.annotators == [*REWARDS, *names, "crowd"]
    assert manifest.summary["annotators"] == ", ".join(scales.annotators)
    assert [manifest.summary[name] for name in names] == ["lora", "full"]
    assert manifest.summary["pairs_without_snapshots"] == 0
    votes = table(outputs["inject"], "labels-")
    for row in table(outputs["score"], "scores-"):
        margins = np.array(row["margins"])
        count = sum(vote["pair_id"] == row["pair_id"] and vote["latest"] for vote in votes)
        assert np.isnan(margins).tolist() == [False] * 4 + [count < 2]
        known = torch.from_numpy(margins[~np.isnan(margins)])[:, None]
        metric = [float(value) for value in minority_metric(known)]
        assert [row[name] for name in ("confidence", "stability", "u")] == pytest.approx(metric, rel=1e-12)
        signs = np.sign(margins[~np.isnan(margins)]).sum()
        assert row["panel_majority"] == TIE + 0.5 * np.sign(signs)
    train = [row["pair_id"] for row in table(outputs["ingest"], "pairs-") if row["split"] == "train"]
    of_train = [row["margins"] for row in table(outputs["score"], "scores-") if row["pair_id"] in train]
    rms = np.sqrt(np.nanmean(np.square(np.array(of_train)), axis=0))
    assert rms.tolist() == pytest.approx([3.75] * 5)


def test_another_run_pays_nothing_and_another_share_for_what_it_has(
    place: Path, ran: tuple[RunConfig, dict[str, StageOutput]]
) -> None:
    done: list[str] = []

    def note(_: int, __: int, what: str) -> None:
        done.append(what)

    run_stages(config_of(place, place, crowd=False), place / "run", STAGES, note)
    assert not {"images", "snapshots"} & set(done)
    sampled = run_stages(config_of(place, place, snapshot_share=0.5), place / "run", STAGES, note)["score"]
    assert "snapshots" not in done
    whole = {row["pair_id"]: row for row in table(ran[1]["score"], "scores-")}
    panel = config_of(place, place, snapshot_share=0.5).score.panel
    assert panel is not None
    judged = 0
    for row in table(sampled, "scores-"):
        inside = in_sample(row["pair_id"], panel)
        judged += inside
        assert np.isnan(row["margins"][2:4]).tolist() == [not inside] * 2
        assert row["margins"][:2] == whole[row["pair_id"]]["margins"][:2]
        assert 0.0 <= row["u"] <= 1.0
    assert 0 < judged < 24
    assert sampled.manifest.summary["pairs_with_snapshots"] == judged
    assert sampled.manifest.summary["pairs_without_snapshots"] == 24 - judged


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(
    place: Path, ran: tuple[RunConfig, dict[str, StageOutput]], tmp_path: Path, ray_session: None
) -> None:
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("score"))
    again = run_stages(config_of(place, tmp_path, engine="ray"), tmp_path / "run", STAGES)["score"].manifest
    assert (again.key, again.files) == (ran[1]["score"].manifest.key, ran[1]["score"].manifest.files)
    assert str(place).encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "run" / "score").rglob("*.json")
    )


def test_labels_may_follow_a_panel_with_snapshots(place: Path, ran: tuple[RunConfig, dict[str, StageOutput]]) -> None:
    labels = {"relabel": "filter_minority", "share": 0.25}
    output = run_stages(config_of(place, place, labels=labels), place / "run", STAGES)["score"]
    assert output.manifest.rows.out == 24
