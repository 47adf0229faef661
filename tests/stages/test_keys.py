"""What the keys of score, train and evaluate take from the models, and what they leave alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.data.ids import canonical_hash
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.stages.keys import COMPARISON, STAGES, Outside
from prefopt.stages.outside import look_outside
from tests.kit.data import config_tree, distinct, write_parquet
from tests.kit.models import tiny_pipeline, tiny_unet, tiny_vae
from tests.kit.weights import lora_directory

TRAINED = ("score", "train", "evaluate")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("keys")
    tiny_pipeline(root / "base")
    tiny_pipeline(root / "other", seed=5)
    lora_directory(root / "lora", tiny_unet())
    tiny_vae(seed=9).save_pretrained(str(root / "vae"))
    return root


def _config(
    root: Path,
    *,
    vae: bool = False,
    inversion: str = "none",
    score: dict[str, Any] | None = None,
    snapshots: tuple[str, ...] = (),
    **train: Any,
) -> RunConfig:
    panel = {"snapshots": [str(root / name) for name in snapshots], "rewards": ["world/style", "world/taste"]}
    named = {field: str(root / train.pop(field)) for field in ("init_from", "reference_from") if field in train}
    tree = {
        "name": "kit",
        "model": {"path": str(root / "base"), "vae": str(root / "vae") if vae else None},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "score": {"resolution": 32, "visits": {"inversion": inversion}, "panel": panel, **(score or {})},
        "train": {**named, **train},
        "evaluate": {"rewards": ["world/true"]},
    }
    return parse_config(tree, "kit")


def _changed(first: RunConfig, second: RunConfig) -> set[str]:
    """The stages whose own part of the key differs."""

    def own(config: RunConfig, stage: str) -> str:
        return canonical_hash(STAGES[stage].slice(config, Outside((), [])))

    return {stage for stage in TRAINED if own(first, stage) != own(second, stage)}


def test_no_place_enters_a_key(place: Path, tmp_path: Path) -> None:
    for name in ("base", "other", "lora", "vae"):
        shutil.copytree(place / name, tmp_path / name)
    options = {
        "vae": True,
        "inversion": "renoise",
        "init_from": "lora",
        "reference_from": "other",
        "snapshots": ("lora",),
    }
    here, there = _config(place, **options), _config(tmp_path, **options)
    assert not _changed(here, there)
    outside = Outside((), [])
    for stage in TRAINED:
        assert str(tmp_path) not in json.dumps(STAGES[stage].slice(there, outside))


def test_the_start_of_the_policy_belongs_to_training(place: Path) -> None:
    assert _changed(_config(place), _config(place, init_from="other")) == {"train"}
    assert _changed(_config(place, init_from="lora"), _config(place, init_from="other")) == {"train"}
    assert not _changed(_config(place), _config(place, init_from="base"))


def test_the_reference_belongs_to_training_and_to_what_score_computes_with_it(place: Path) -> None:
    assert _changed(_config(place), _config(place, reference_from="lora")) == {"train"}
    for options in ({"inversion": "renoise"}, {"reference": "cached"}):
        assert _changed(_config(place, **options), _config(place, reference_from="lora", **options)) == {
            "score",
            "train",
        }


def test_snapshots_and_what_they_are_compared_with_belong_to_score(place: Path) -> None:
    plain, judged = _config(place), _config(place, snapshots=("lora",))
    assert _changed(plain, judged) == {"score"}
    assert _changed(judged, _config(place, snapshots=("other",))) == {"score"}
    assert _changed(judged, _config(place, snapshots=("lora",), reference_from="other")) == {"score", "train"}
    assert _changed(judged, _config(place, snapshots=("lora",), precision="bf16")) == {"score", "train"}
    assert _changed(plain, _config(place, precision="bf16")) == {"train"}


def test_the_content_of_prompt_files_belongs_to_evaluate_and_their_place_to_none(tmp_path: Path) -> None:
    def own(folder: str, content: str, name: str = "x.txt", **fields: Any) -> tuple[Any, ...]:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / name).write_text(content)
        sets = [{"kind": "heldout"}, {"kind": "file", "path": str(place / name), **fields}]
        tree = config_tree(tmp_path, [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}])
        config = parse_config({**tree, "evaluate": {**tree["evaluate"], "prompt_sets": sets}}, "kit")
        outside = look_outside(config, Storage(str(tmp_path / "store")))
        slices = {stage: json.dumps(spec.slice(config, outside)) for stage, spec in STAGES.items()}
        assert str(place) not in slices["evaluate"]
        return slices["evaluate"], [slices[stage] for stage in slices if stage != "evaluate"]

    write_parquet(tmp_path / "x.parquet", distinct(4))
    first = own("a", "prompt\nb\n")
    assert own("b", "prompt\nb\n", "y.txt") == first
    for other in (
        own("a", "prompt\nc\n"),
        own("c", "prompt\nb\n", "x.csv"),  # another format of the same bytes
        own("b", "prompt\nb\n", name="x.txt", most=1),
    ):
        assert other[0] != first[0]
        assert other[1] == first[1]


def test_a_bad_prompt_file_is_found_before_the_first_stage(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", distinct(4))
    (tmp_path / "x.jsonl").write_text("[1]\n")
    tree = config_tree(tmp_path, [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}])
    tree["evaluate"]["prompt_sets"] = [{"kind": "file", "path": str(tmp_path / "x.jsonl")}]
    with pytest.raises(InputError, match=r"x\.jsonl, line 1 must hold a JSON object"):
        look_outside(parse_config(tree, "kit"), Storage(str(tmp_path / "store")))


def test_the_vae_belongs_to_all(place: Path) -> None:
    assert _changed(_config(place), _config(place, vae=True)) == set(TRAINED)


def test_the_base_model_belongs_to_all_that_loads_it(place: Path, tmp_path: Path) -> None:
    """Without inversion, score loads the VAE alone."""
    shutil.copytree(place / "base", tmp_path / "base")
    config = tmp_path / "base" / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    assert _changed(_config(place), _config(tmp_path)) == {"train", "evaluate"}
    inverted = {"inversion": "renoise"}
    assert _changed(_config(place, **inverted), _config(tmp_path, **inverted)) == set(TRAINED)


def test_what_changes_no_result_belongs_to_none(place: Path) -> None:
    assert not _changed(_config(place), _config(place, workers=2, prompt_cache_mb=1))


def test_dtype_sizes_and_what_sdxl_is_told_belong_to_score(place: Path) -> None:
    changes = ({"latent_dtype": "float32"}, {"buckets": [[40, 24]]}, {"size_conditioning": "target"})
    for score in changes:
        assert _changed(_config(place), _config(place, score=score)) == {"score"}


def test_only_the_sizes_count_and_not_how_they_are_written(place: Path) -> None:
    assert not _changed(_config(place), _config(place, score={"resolution": 64, "buckets": [[32, 32]]}))
    orders = [{"buckets": [[32, 32], [40, 24]]}, {"buckets": [[40, 24], [32, 32]]}]
    assert not _changed(*(_config(place, score=score) for score in orders))


def test_the_micro_batch_belongs_to_the_plan_where_there_are_buckets(place: Path) -> None:
    several = {"score": {"buckets": [[32, 32], [40, 24]]}}
    assert _changed(_config(place), _config(place, micro_batch=8)) == {"train"}
    assert _changed(_config(place, **several), _config(place, micro_batch=8, **several)) == {"score", "train"}


def _comparison(place: Path, models: dict[str, str], **branches: Any) -> str:
    tree = {
        "name": "kit",
        "model": {"path": str(place / "base")},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        **branches,
        "evaluate": {
            "rewards": ["world/true"],
            "prompt_sets": [{"kind": "file", "path": "mine.txt"}],
            "models": {name: str(place / directory) for name, directory in models.items()},
            **branches.get("evaluate", {}),
        },
    }
    return canonical_hash(COMPARISON["compare"].slice(parse_config(tree, "kit"), Outside((), [])))


def test_a_comparisons_key_knows_the_order_of_its_models_and_what_limits_prompts(place: Path) -> None:
    """The report is about the first model."""
    models = {"a": "other", "b": "lora"}
    key = _comparison(place, models)
    assert _comparison(place, dict(reversed(models.items()))) != key
    assert _comparison(place, {"a": "lora", "b": "other"}) != key
    assert _comparison(place, models, limit=3) != key
    sources = [{"kind": "world", "pairs": 8}]
    assert _comparison(place, models, ingest={"sources": sources, "limits": {"prompt_bytes": 9}}) != key
    assert _comparison(place, models, ingest={"sources": sources, "split": {"test": 0.2}}) == key
    assert _comparison(place, models, evaluate={"accuracy": {"pairs": 3}, "split": "validation"}) == key
