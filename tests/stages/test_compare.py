"""Models compared without a run: full models, of two families, and LoRA weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, load_comparison
from prefopt.config.root import ModelConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.sources import base_weights
from prefopt.models.unets import load_unet
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.keys import COMPARISON
from tests.kit.models import RESOLUTION, TINY, tiny_pipeline
from tests.kit.weights import lora_directory

SETTINGS = (
    "evaluate.rewards=[world/true]",
    f"evaluate.sampler={{steps: 2, guidance: 3.0, resolution: {RESOLUTION}}}",
    "evaluate.batch=4",
    "evaluate.unit_prompts=4",
    "evaluate.samples_per_prompt=2",
    "evaluate.bootstrap.resamples=100",
    "cluster={engine: process, worker_cpus: 0.5, threads: 1}",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    tiny_pipeline(root / "a", seed=0)
    tiny_pipeline(root / "b", seed=1)
    TINY["sdxl"](root / "c", seed=2)
    base = base_weights(ModelConfig(path=str(root / "a")))
    lora_directory(root / "d", load_unet(base, base))
    colours = ("red", "blue", "green", "grey", "tan")
    (root / "mine.txt").write_text("".join(f"a {colour} circle\n" for colour in colours))
    return root


def comparison(place: Path, *models: str, store: str = "store", **cluster: Any) -> RunConfig:
    prompts = f"evaluate.prompt_sets=[{{kind: file, path: {place}/mine.txt}}]"
    more = [f"store={place}/{store}", *(f"cluster.{name}={value}" for name, value in cluster.items())]
    return load_comparison(None, [str(place / name) for name in models], [prompts, *SETTINGS, *more])


def compared(config: RunConfig, run: Path) -> StageOutcome:
    quiet = lambda done, total, what, how="": None  # noqa: E731
    chain = Chain(config, str(run), start_engine=lambda: None, progress=quiet, stages=COMPARISON)
    (outcome,) = chain.run(["compare"])
    return outcome


@pytest.fixture(scope="module")
def four(place: Path) -> StageOutcome:
    return compared(comparison(place, "a", "b", "c", "d"), place / "four")


def figures(outcome: StageOutcome) -> dict:
    return json.loads(outcome.output.storage.read_bytes("metrics.json"))


def test_every_model_meets_the_first(four: StageOutcome) -> None:
    found = figures(four)
    assert found["base"] == "a"
    assert list(found["models"]) == ["b", "c", "d"]
    assert {one["world/true"]["win_rate"]["n"] for one in found["models"].values()} == {10}
    assert {row["model"] for row in found["ranking"]["rows"]} == {"b", "c", "d"}
    assert found["accuracy_heldout"] is None
    assert four.output.manifest.rows.in_ == 4 * 5 * 2
    images = {
        model: [
            row["png"]
            for unit in (0, 1)
            for row in four.output.storage.read_table(f"images-{model}-0000{unit}.parquet").to_pylist()
        ]
        for model in ("base", "b", "c", "d")
    }
    assert len({png for pngs in images.values() for png in pngs}) == 40


def test_the_report_stands_at_the_top(four: StageOutcome, place: Path) -> None:
    html = (place / "four" / "report.html").read_text()
    assert "b, c and d against a" in html
    assert str(place) not in html
    assert html.count("<img ") == 4 * (5 + 5)


def test_a_model_that_was_drawn_is_not_drawn_again_whoever_it_meets(four: StageOutcome, place: Path) -> None:
    drawn = Storage(str(place / "store")).files("generated")
    back = figures(compared(comparison(place, "b", "a"), place / "two"))
    assert Storage(str(place / "store")).files("generated") == drawn
    there = figures(four)
    assert there["models"]["b"]["world/true"]["mean"] == back["base_scores"]["world/true"]["mean"]
    wins = there["models"]["b"]["world/true"]["win_rate"], back["models"]["a"]["world/true"]["win_rate"]
    assert wins[0]["value"] == pytest.approx(1.0 - wins[1]["value"])


@pytest.mark.slow
def test_workers_units_and_the_store_change_no_byte(
    four: StageOutcome, place: Path, tmp_path: Path, ray_session: None
) -> None:
    again = compared(comparison(place, "a", "b", "c", "d", store="other", engine="ray", workers=2), tmp_path)
    read = four.output.storage.read_bytes
    assert {e.path: e.sha256 for e in again.output.manifest.files} == {
        e.path: e.sha256 for e in four.output.manifest.files
    }
    assert read("metrics.json") == again.output.storage.read_bytes("metrics.json")


def test_one_shard_and_four_give_the_same_images_and_figures(place: Path, tmp_path: Path) -> None:
    """A shard is a whole number of batches, the last of which is padded."""
    (tmp_path / "many.txt").write_text("".join(f"picture {number}\n" for number in range(15)))
    sets = f"evaluate.prompt_sets=[{{kind: file, path: {tmp_path}/many.txt}}]"
    images, figures_of = {}, {}
    for prompts in (15, 4):
        settings = [*SETTINGS, sets, f"store={tmp_path}/store-{prompts}", "evaluate.samples_per_prompt=1"]
        config = load_comparison(
            None, [str(place / "a"), str(place / "b")], [*settings, f"evaluate.unit_prompts={prompts}"]
        )
        made = compared(config, tmp_path / f"run-{prompts}").output.storage
        shards = [name for name in made.files() if name.startswith("images-b-")]
        assert len(shards) == -(-15 // prompts)
        images[prompts] = [row for name in sorted(shards) for row in made.read_table(name).to_pylist()]
        figures_of[prompts] = made.read_bytes("metrics.json")
    assert images[15] == images[4]
    assert figures_of[15] == figures_of[4]


def test_a_model_that_is_not_there_is_named(place: Path, tmp_path: Path) -> None:
    config = comparison(place, "a", "nothing-here")
    with pytest.raises(InputError, match=r"evaluate\.models\.nothing-here"):
        compared(config, tmp_path)
