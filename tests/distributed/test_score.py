"""Reward models that misbehave, padding, and pixels read where they lie."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.keys import reward_key
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.costly import CostlyRows, Latent, scored_images
from prefopt.distributed.pixels import read_pixels
from prefopt.distributed.score import ScoreImages
from prefopt.distributed.stores import reward_store
from prefopt.errors import ConfigError, InputError, RewardError
from prefopt.rewards import REWARDS, RewardSpec, reward_spec
from prefopt.stages.base import StageOutput
from prefopt.world.dataset import write_dataset
from tests.kit.data import fingerprint, quiet, run_stages, small_config


@dataclass(frozen=True)
class FakeReward:
    """Scores each image by its mean, but the one numbered `broken` of all it has seen, which gets `value`."""

    value: Any = float("nan")
    name: str = "fake"
    version: str = "1"

    def score(self, images: Sequence[Any], prompts: Sequence[str]) -> np.ndarray:
        scores = np.array([np.asarray(image).mean() for image in images], dtype=np.float32)
        if callable(self.value):
            return np.asarray(self.value(scores))
        scores[len(scores) // 2] = self.value
        return scores


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder, pairs=30, seed=0, rows_per_file=20, row_group_rows=4)
    return folder


def config_of(place: Path, world: Path, **branches: Any) -> RunConfig:
    source = {"kind": "pickapic", "path": str(world), "group_column": "user_group"}
    return small_config(place, [source], **branches)


@pytest.fixture(scope="module")
def ingested(world: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutput:
    place = tmp_path_factory.mktemp("ingested")
    return run_stages(config_of(place, world), place / "run")["ingest"]


def score_with(
    reward: Any, place: Path, world: Path, ingested: StageOutput, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """Score the first images in this process with one reward model; gives the store."""
    monkeypatch.setitem(REWARDS, "fake", RewardSpec("fake", "1", lambda: reward))
    config = config_of(place, world)
    store, work = Storage(str(place / "store")), Storage(str(place / "work"))
    costly = CostlyRows(config, config.ingest.sources, store, work, quiet)
    todo, concerned = costly._image_work(
        read_tables(ingested, "images-"), read_tables(ingested, "pairs-"), ("fake",), ()
    )
    assert concerned == ["fake"]
    work.write_table("images.parquet", todo)
    ScoreImages(config, config.ingest.sources, store, work, [reward_spec("fake")])({"start": 0, "count": 11})
    return store


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_not_finite_is_refused(
    value: float, tmp_path: Path, world: Path, ingested: StageOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RewardError, match=r"'fake' gave (nan|inf|-inf) for image [0-9a-f]{32} under the prompt"
    ) as caught:
        score_with(FakeReward(value), tmp_path, world, ingested, monkeypatch)
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "store").rglob("*.parquet"))


@pytest.mark.parametrize(
    "spoil", [lambda s: s[:-1], lambda s: s[:, None], lambda s: s.astype(np.float64)], ids=["short", "2-d", "float64"]
)
def test_a_reward_of_another_form_is_refused(
    spoil: Any, tmp_path: Path, world: Path, ingested: StageOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RewardError, match=r"'fake' gave float\d\d .* for 8 images: it must give float32 \(8,\)"):
        score_with(FakeReward(spoil), tmp_path, world, ingested, monkeypatch)


def test_an_unknown_reward_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"no reward model 'nice'. Known: .*world/true"):
        reward_spec("nice")


def test_every_batch_is_full_and_padding_leaves_no_trace(
    tmp_path: Path, world: Path, ingested: StageOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def note(scores: np.ndarray) -> np.ndarray:
        sizes.append(len(scores))
        return scores

    store = score_with(FakeReward(note), tmp_path, world, ingested, monkeypatch)
    assert set(sizes) == {8}
    rows = reward_store(store, reward_spec("fake"), 8)
    rows.refresh()
    keys = {reward_key(*pair) for pair in scored_images(read_tables(ingested, "pairs-"))}
    done = keys - set(rows.missing(sorted(keys)))
    assert 11 <= len(done) < len(keys)
    means = dict(_means(world, ingested))
    for image, prompt in scored_images(read_tables(ingested, "pairs-")):
        key = reward_key(image, prompt)
        if key in done:
            assert rows.get([key], ["score"])["score"][0].as_py() == means[image]


def _means(world: Path, ingested: StageOutput) -> list[tuple[str, float]]:
    config = config_of(Path("unused"), world)
    order = [(name, "ascending") for name in ("source", "file", "row", "column")]
    places = read_tables(ingested, "images-").sort_by(order).to_pylist()
    found = read_pixels(config.ingest.sources, places, config.ingest.limits)
    return [(image_id, np.float32(np.asarray(image).mean()).item()) for image_id, image in found]


@pytest.mark.parametrize(("value", "message"), [(np.nan, "is not finite"), (1e5, "reaches 100000, which float16")])
def test_an_image_whose_latent_cannot_be_stored_is_named(
    tmp_path: Path,
    world: Path,
    ingested: StageOutput,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    message: str,
) -> None:
    config = config_of(tmp_path, world)
    store, work = Storage(str(tmp_path / "store")), Storage(str(tmp_path / "work"))
    images = read_tables(ingested, "images-")
    latents = [Latent(Size(32, 32), image, False) for image in images["image_id"].to_pylist()]
    costly = CostlyRows(config, config.ingest.sources, store, work, quiet)
    todo, _ = costly._image_work(images, read_tables(ingested, "pairs-"), (), latents)
    work.write_table("images.parquet", todo)
    broken = todo["image_id"][9].as_py()

    def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(len(pixels), 12, 8, 8)
        made[1] = value if next(batches) else 0.0
        return made

    batches = itertools.count()
    monkeypatch.setattr("prefopt.distributed.score.encode_images", encode)
    with pytest.raises(InputError, match=f"The latent of image {broken} {message}"):
        ScoreImages(config, config.ingest.sources, store, work, [])({"start": 0, "count": 16})


def test_pixels_are_read_where_they_lie(world: Path, ingested: StageOutput) -> None:
    images = read_tables(ingested, "images-")
    assert sorted(image for image, _ in _means(world, ingested)) == images["image_id"].to_pylist()


def test_an_image_that_went_away_is_named(tmp_path: Path) -> None:
    config = small_config(tmp_path, [{"kind": "folder", "path": str(tmp_path / "x.csv"), "images": str(tmp_path)}])
    place = {"image_id": "i", "source": 0, "file": "gone.png", "row": -1, "column": ""}
    with pytest.raises(InputError, match=r"An image of gone\.png that ingest accepted cannot be decoded"):
        list(read_pixels(config.ingest.sources, [place], config.ingest.limits))


STAGES = ("ingest", "inject", "score")
SCORE = {
    "alpha": {"reward": "world/taste"},
    "panel": {"rewards": ["world/fidelity", "world/style"]},
    "visits": {"inversion": "renoise", "steps": 2, "batch": 4, "flip": 0.5, "drop_prompt": 0.2},
}


def test_score_does_not_depend_on_workers_or_unit_size_and_pays_for_nothing_twice(
    tmp_path: Path, world: Path, ray_session: None
) -> None:
    one = config_of(tmp_path / "one", world, score=SCORE)
    run_stages(one, tmp_path / "one" / "run", STAGES)
    on_ray = {"engine": "ray", "workers": 2}
    two = config_of(tmp_path / "two", world, score={**SCORE, "unit_images": 13}, cluster=on_ray)
    run_stages(two, tmp_path / "two" / "run", STAGES)
    assert fingerprint(tmp_path / "one" / "run") == fingerprint(tmp_path / "two" / "run")
    done: list[str] = []
    again = config_of(tmp_path / "two", world, score={**SCORE, "alpha": {"reward": "world/style"}})
    run_stages(again, tmp_path / "two" / "again", STAGES, lambda _, __, what: done.append(what))
    assert not {"images", "visits"} & set(done[done.index("labels") + 1 :])
