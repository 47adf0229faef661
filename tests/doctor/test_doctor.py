"""`prefopt doctor` through the command line: what it finds, what it advises, and its exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt import cli
from prefopt.data.storage import Storage
from tests.kit.data import config_tree, distinct, write_parquet
from tests.kit.models import tiny_pipeline
from tests.kit.s3 import object_store

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command in a directory with a good config, my.yaml; gives exit code and checks by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("prefopt.doctor.cluster.processors", lambda: 4)
    write_parquet(tmp_path / "x.parquet", distinct(4))
    write_config(tmp_path)

    def run(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["prefopt", "doctor", *arguments, "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        answer = json.loads(capsys.readouterr().out.splitlines()[-1])
        checks = {check["name"]: check for check in answer["checks"]}
        states = [check["state"] for check in answer["checks"]]
        assert (answer["problems"], answer["warnings"]) == (states.count("problem"), states.count("warning"))
        return int(end.value.code or 0), checks

    return run


def write_config(place: Path, source: dict[str, Any] | None = None, **branches: Any) -> None:
    branches["cluster"] = {"engine": "ray", **branches.get("cluster", {})}
    tree = config_tree(place, [source or {"kind": "pickapic", "path": "x.parquet"}], **branches)
    (place / "my.yaml").write_text(yaml.safe_dump(tree))


def problems(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if check["state"] == "problem"]


def test_a_machine_that_has_everything(doctor: Doctor) -> None:
    code, checks = doctor()
    assert code == 0
    assert {"python", "packages", "processors", "memory", "accelerators", "compiler"} == checks.keys()
    assert "torch" in checks["packages"]["found"]


def test_a_config_that_has_everything(doctor: Doctor, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, checks = doctor("my.yaml")
    assert (code, problems(checks)) == (0, [])
    for name in ("config", "model", "source 0", "store", "run directory", "rewards", "trackers", "ray", "workers"):
        assert checks[name]["state"] == "ok", checks[name]
    assert sorted(tmp_path.rglob("*")) == before, "a doctor leaves nothing behind"


def test_plain_lines_say_the_same(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prefopt", "doctor", "my.yaml", "--set", "model.path=no/such/place"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 2
    assert lines[0].startswith("ok       python")
    assert lines[-1] == f"{sum(not line.startswith(' ') for line in lines) - 1} checks: 1 problem, no warnings."
    (told,) = [number for number, line in enumerate(lines) if line.startswith("problem")]
    assert lines[told].split(maxsplit=2)[1] == "model"
    assert lines[told + 1].strip() == "-> Check model.path."


def test_a_config_that_is_not_valid(doctor: Doctor, tmp_path: Path) -> None:
    write_config(tmp_path, train={"stepz": 3})
    code, checks = doctor("my.yaml")
    assert (code, problems(checks)) == (2, ["config"])
    assert "did you mean 'steps'" in checks["config"]["found"]
    code, checks = doctor("absent.yaml")
    assert "Cannot read the config absent.yaml" in checks["config"]["found"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"kind": "pickapic", "path": "absent.parquet"}, "There is no .parquet file"),
        ({"kind": "pickapic", "path": "broken.parquet"}, "is not a whole parquet file"),
        ({"kind": "folder", "path": "votes.csv", "images": "."}, "image 'a.png' is missing"),
        ({"kind": "folder", "path": "empty.csv", "images": "."}, "the first holds no row"),
    ],
)
def test_sources_that_cannot_be_read(doctor: Doctor, tmp_path: Path, source: dict[str, Any], words: str) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not much more")
    (tmp_path / "votes.csv").write_text("winner,loser,prompt\na.png,b.png,a cat\n")
    (tmp_path / "empty.csv").write_text("winner,loser,prompt\n")
    write_config(tmp_path, source)
    code, checks = doctor("my.yaml")
    assert (code, problems(checks)) == (2, ["source 0"])
    assert words in checks["source 0"]["found"]


def test_prompt_sets(doctor: Doctor, tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", distinct(3))
    (tmp_path / "mine.txt").write_text("a cat\n\na dog\n")
    sets = f"evaluate.prompt_sets=[{{kind: heldout}}, {{kind: file, path: {tmp_path}/mine.txt}}]"
    code, checks = doctor("my.yaml", "--set", sets)
    assert (code, checks["prompts file"]["found"]) == (0, "2 prompts, 1 skipped.")
    (tmp_path / "mine.txt").write_bytes(b"\xff")
    code, checks = doctor("my.yaml", "--set", sets)
    assert (code, problems(checks)) == (2, ["prompts file"])
    assert "is not UTF-8" in checks["prompts file"]["found"]


def test_a_source_with_a_damaged_row_among_good_ones(doctor: Doctor, tmp_path: Path) -> None:
    rows = distinct(3)
    rows[1]["jpg_0"] = b"no image"
    write_parquet(tmp_path / "x.parquet", rows)
    code, checks = doctor("my.yaml")
    assert (code, checks["source 0"]["state"]) == (0, "warning")
    assert "row 1: bad_image" in checks["source 0"]["found"]


def test_models(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_pipeline(tmp_path / "model")
    assert doctor("my.yaml", "--set", f"model.path={model}")[1]["model"]["state"] == "ok"
    for file in (model / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    code, checks = doctor("my.yaml", "--set", f"model.path={model}")
    assert (code, problems(checks)) == (2, ["model"])
    assert "holds no safetensors file" in checks["model"]["found"]
    (model / "model_index.json").unlink()
    assert "no model_index.json" in doctor("my.yaml", "--set", f"model.path={model}")[1]["model"]["found"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    _, checks = doctor("my.yaml", "--set", "model.path=some/model", "--set", "train.init_from=an/other")
    assert checks["model"]["state"] == checks["train.init_from"]["state"] == "warning"
    assert "set train.init_from to a directory" in checks["train.init_from"]["advice"]
    _, checks = doctor("my.yaml", "--set", f"score.panel={{snapshots: [{tmp_path}, an/other]}}")
    states = [checks[f"score.panel.snapshots.{number}"]["state"] for number in (0, 1)]
    assert states == ["ok", "warning"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert doctor("my.yaml", "--set", "model.path=some/model")[1]["model"]["state"] == "problem"


def test_places_that_cannot_be_written_to(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, checks = doctor("my.yaml", "--set", "store=file/store", "--run-dir", "file/run")
    assert code == 2
    assert {"store", "run directory"} <= set(problems(checks))


def test_an_object_store(doctor: Doctor) -> None:
    with object_store() as uri:
        Storage(f"{uri}/earlier").write_bytes("run.json", b"{}")
        start = ("--set", f"train.init_from={uri}/earlier")
        code, checks = doctor("my.yaml", "--set", f"store={uri}/store", "--run-dir", f"{uri}/run", *start)
        assert code == 0
        assert checks["train.init_from"]["state"] == "ok"
        assert doctor("my.yaml", "--set", f"train.init_from={uri}/other")[1]["train.init_from"]["state"] == "problem"
        assert "answers" in checks["store"]["found"]
        assert "disk for store" not in checks
        code, checks = doctor("my.yaml", "--set", "store=s3://no-such-bucket/store")
    assert (code, problems(checks)) == (2, ["store"])
    assert "credentials" in checks["store"]["advice"]


@pytest.mark.parametrize(
    ("setting", "name", "words"),
    [
        ("train.trackers.wandb=mine", "trackers", "wandb"),
        ("evaluate.rewards=[no/such]", "rewards", "There is no reward model 'no/such'"),
        ("train.workers=2", "workers", "train.workers 2 x cluster.worker_cpus 3 does not fit"),
        ("cluster.worker_gpus=1", "gpus", "and there are none"),
        ("train.compile=true", "torch.compile", "needs a C compiler"),
        ("cluster.address=127.0.0.1:1", "ray", "Nobody answers at 127.0.0.1:1"),
    ],
)
def test_what_else_may_be_missing(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, setting: str, name: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("prefopt.doctor.cluster.accelerators", list)
    extra = ("--set", "cluster.worker_cpus=3") if name == "workers" else ()
    code, checks = doctor("my.yaml", "--set", setting, *extra)
    assert (code, problems(checks)) == (2, [name])
    assert words in checks[name]["found"]
    assert checks[name]["advice"]


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        (["train.zero=3"], "zero", "shards nothing"),
        (["train.precision=fp16"], "precision", "Processors"),
        ([], "gpus", "none is used"),
    ],
)
def test_what_works_but_could_be_better(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, settings: list[str], name: str, words: str
) -> None:
    monkeypatch.setattr("prefopt.doctor.cluster.accelerators", lambda: [("a GPU", 80.0)])
    code, checks = doctor("my.yaml", *[part for setting in settings for part in ("--set", setting)])
    assert (code, checks[name]["state"]) == (0, "warning")
    assert words in checks[name]["found"]


def test_ray_that_runs_is_asked_what_it_has(doctor: Doctor, ray_session: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    code, checks = doctor("my.yaml", "--ray-address", address)
    assert code == 0
    assert "has 4 CPUs and 0 GPUs" in checks["ray"]["found"]
    assert "fit in 4 CPUs" in checks["workers"]["found"]


@pytest.mark.slow
def test_a_local_ray_starts_if_asked(doctor: Doctor) -> None:
    assert "A local Ray starts" in doctor("--start-ray")[1]["ray"]["found"]


def test_a_config_without_ray_is_not_asked_for_ray(tmp_path: Path, doctor: Doctor) -> None:
    write_config(tmp_path, cluster={"engine": "process"})
    code, checks = doctor("my.yaml", "--start-ray")
    assert code == 0
    assert "without Ray" in checks["ray"]["found"]
    assert "workers" not in checks
