import hashlib
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, parse_config
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError
from prefopt.stages.chain import Chain
from prefopt.stages.keys import STAGES, Outside
from tests.kit.data import config_tree, distinct, quiet, run_stages, small_config, write_parquet

OUTSIDE = Outside((), [["x.parquet", 1, "abc"]])


def keys(**branches: Any) -> dict[str, str]:
    """Each stage's slice, as text."""
    config = parse_config(config_tree(Path("p"), [{"kind": "world"}], **branches), "x")
    return {name: str(spec.slice(config, OUTSIDE)) for name, spec in STAGES.items()}


@pytest.mark.parametrize(
    ("branches", "changed"),
    [
        ({"name": "other", "store": "elsewhere"}, set()),
        ({"cluster": {"workers": 1, "threads": 3}}, set()),
        ({"train": {"workers": 2, "keep_checkpoints": 9, "checkpoint_every": 1, "max_failures": 0}}, set()),
        ({"score": {"unit_images": 7}, "evaluate": {"allow_training_rewards": True}}, set()),
        ({"ingest": {"split": {"seed": 9}}}, {"ingest"}),
        ({"ingest": {"unit_rows": 7}}, {"ingest"}),
        ({"limit": 5}, {"ingest"}),
        ({"inject": {"seed": 4}}, {"inject"}),
        ({"labels": {"from": "majority"}}, {"score"}),
        ({"score": {"alpha": {"reward": "world/style"}}}, {"score"}),
        ({"card": {"pairs": 3}}, {"card"}),
        ({"train": {"optimizer": {"lr": 1e-3}}}, {"train"}),
        ({"train": {"steps": 9}}, {"score", "train"}),
        ({"seed": 3}, {"train"}),
        ({"evaluate": {"prompt_sets": [{"kind": "heldout", "most": 3}]}}, {"evaluate"}),
        ({"evaluate": {"unit_prompts": 3}}, {"evaluate"}),
    ],
)
def test_a_key_changes_with_what_its_stage_uses_and_nothing_else(branches: dict[str, Any], changed: set[str]) -> None:
    before, after = keys(), keys(**branches)
    assert {name for name in before if before[name] != after[name]} == changed


def test_gap_flips_depend_on_the_rewards_batch_shape() -> None:
    flips = {"flips": [{"kind": "gap", "rate": 0.1, "reward": "world/style"}]}
    assert keys(inject=flips)["inject"] != keys(inject=flips, score={"batch": 5})["inject"]
    assert keys()["inject"] == keys(score={"batch": 5})["inject"]


def config(place: Path) -> RunConfig:
    path = write_parquet(place / "x.parquet", distinct(6))
    return small_config(place, [{"kind": "pickapic", "path": str(path)}])


def chain(place: Path, run_dir: str = "run") -> Chain:
    return Chain(config(place), str(place / run_dir), start_engine=lambda: None, progress=quiet)


def test_a_stage_without_its_parent_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inject needs the output of ingest, .*run `prefopt ingest` first"):
        chain(tmp_path).run(["inject"])


def test_nothing_is_started_for_work_that_is_done(tmp_path: Path) -> None:
    run_stages(config(tmp_path), tmp_path / "run")
    again = Chain(config(tmp_path), str(tmp_path / "run"), start_engine=lambda: pytest.fail("no work"), progress=quiet)
    assert [outcome.skipped for outcome in again.run(["ingest"])] == [True]


def test_a_run_notes_its_stages_and_keeps_places_out_of_manifests(tmp_path: Path) -> None:
    output = run_stages(config(tmp_path), tmp_path / "run")["ingest"]
    key = output.manifest.key
    run = Storage(str(tmp_path / "run"))
    assert output.storage.uri == f"{run.uri}/ingest/{key[:12]}"
    assert f'"ingest": "{key}"'.encode() in run.read_bytes("run.json")
    assert str(tmp_path).encode() not in output.storage.read_bytes("manifest.json")
    names = (f"{key[:12]}.json", "config.yaml", "rows.json")
    assert set(run.files("logs")) == {f"logs/ingest/{name}" for name in names}


def test_every_source_file_is_named_with_its_digest(tmp_path: Path) -> None:
    output = run_stages(config(tmp_path), tmp_path / "run")["ingest"]
    file = tmp_path / "x.parquet"
    assert output.storage.read_table("sources.parquet").to_pylist() == [
        {
            "source": 0,
            "kind": "pickapic",
            "file": "x.parquet",
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
    ]
    assert output.manifest.summary["source_files"] == 1


def test_a_changed_source_changes_the_key(tmp_path: Path) -> None:
    before = chain(tmp_path).directory("ingest").uri
    assert chain(tmp_path).directory("ingest").uri == before
    write_parquet(tmp_path / "x.parquet", distinct(6, start=1))
    source = {"kind": "pickapic", "path": str(tmp_path / "x.parquet")}
    changed = Chain(small_config(tmp_path, [source]), str(tmp_path / "run"), start_engine=lambda: None, progress=quiet)
    assert changed.directory("ingest").uri != before


def test_a_relative_source_is_found_by_workers(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "x.parquet", distinct(6))
    monkeypatch.chdir(tmp_path)
    settings = small_config(Path("."), [{"kind": "pickapic", "path": "x.parquet"}], cluster={"engine": "ray"})
    assert run_stages(settings, "run")["ingest"].manifest.rows.out == 6


def test_a_report_of_equal_size_replaces_the_old_one(tmp_path: Path) -> None:
    run_stages(config(tmp_path), tmp_path / "run")
    run, output = Storage(str(tmp_path / "run")), chain(tmp_path).directory("ingest")
    run.write_bytes("metrics.json", b'{"win": 0.5}')
    output.write_bytes("metrics.json", b'{"win": 0.7}')
    chain(tmp_path).run(["ingest"])
    assert run.read_bytes("metrics.json") == b'{"win": 0.7}'


def test_an_unknown_reward_is_found_before_any_work(tmp_path: Path) -> None:
    tree = config_tree(tmp_path, [{"kind": "world", "pairs": 2}], evaluate={"rewards": ["world/nice"]})
    with pytest.raises(ConfigError, match="no reward model 'world/nice'"):
        Chain(parse_config(tree, "x"), str(tmp_path / "run"), start_engine=lambda: None, progress=quiet)
