"""`prefopt plan`, before a run and after it."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import safetensors.torch
import yaml
from rich.console import Console

from prefopt import cli
from prefopt.config import load_config
from prefopt.data.manifest import Rows
from prefopt.data.schema import PAIRS
from prefopt.planning import report
from prefopt.planning.plan import make_plan
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.chain import Chain
from prefopt.stages.keys import STAGES
from tests.kit.data import quiet
from tests.kit.published import sd15_configs, sdxl_configs
from tests.kit.stages import pair_row

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
QUICKSTART = str(EXAMPLES / "quickstart.yaml")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `prefopt plan` in this process; reading weights or starting Ray is an error."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a plan loads no weights and starts no Ray")

    monkeypatch.setattr(safetensors.torch, "load_file", forbidden)
    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", forbidden)
    monkeypatch.setattr("prefopt.distributed.session.start_ray", forbidden)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefopt", "plan", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def as_json(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_before_a_run(plan: Command, tmp_path: Path) -> None:
    code, out, _ = plan(QUICKSTART)
    assert code == 0
    assert "\x1b" not in out
    lines = [line.strip() for line in out.splitlines()]
    titles = ["Data:", "Model (SD1.5):", "Work:", "Time (estimate):", "Written (estimate):"]
    assert [line for line in lines if line in titles] == titles
    assert any(line.startswith("pairs") and line.endswith("estimate") for line in lines)
    assert "Planned and taken:" not in lines
    assert any(line.startswith("Training fits: ZeRO 0 needs") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object(plan: Command) -> None:
    code, out, _ = plan(QUICKSTART, "--json", "--gpu", "a100-80gb", "--pairs", "5000", "--set", "train.steps=100")
    found = as_json(out)
    assert code == 0
    assert found["device"]["name"] == "A100-80GB"
    assert (found["counts"]["pairs"], found["counts"]["source"]) == (5000, "--pairs")
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == list(STAGES)
    assert stages["train"]["items"][0]["count"] == 2 * 100 * 32
    assert stages["train"]["gpus"] == 2
    assert found["totals"]["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages.values()))
    assert [stage["zero"] for stage in found["memory"]["stages"]] == [0, 1, 2, 3]
    assert found["taken"] == []
    assert any("cluster.worker_gpus is 0" in note for note in found["notes"])


def test_bad_usage_is_one_sentence(plan: Command) -> None:
    code, _, err = plan(QUICKSTART, "--gpu", "abacus")
    assert (code, err.splitlines()[-1][:39]) == (2, "Error: --gpu abacus: not in the table. ")
    code, _, err = plan(str(EXAMPLES / "sd15_full.yaml"))
    assert code == 2
    assert err.splitlines()[-1].startswith("Error: ingest.sources.0 (pickapic): There is no .parquet file at data/")


def finished_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart with fewer pairs, run by the real chain with stages that only pretend to work."""
    tree = yaml.safe_load(Path(QUICKSTART).read_text())
    tree["ingest"]["sources"] = [{"kind": "world", "pairs": 12}]
    tree["store"] = str(place / "store")
    path = place / "small.yaml"
    path.write_text(yaml.safe_dump(tree))

    def ingest(context: StageContext) -> StageResult:
        splits = ["train"] * 8 + ["validation", "test", "test", "test"]
        rows = [pair_row(n, f"prompt {n}", split) for n, split in enumerate(splits)]
        context.output.write_table("pairs-00000.parquet", pa.Table.from_pylist(rows, schema=PAIRS))
        return StageResult(Rows(in_=14, out=14), ["pairs-00000.parquet"], {"pairs": 12, "images": 24})

    def nothing(context: StageContext) -> StageResult:
        context.output.write_bytes("done.txt", b"")
        return StageResult(Rows(in_=1, out=1), ["done.txt"])

    for stage in STAGES:
        monkeypatch.setattr(f"prefopt.stages.{stage}.run", ingest if stage == "ingest" else nothing)
    chain = Chain(load_config(path), str(place / "run"), start_engine=lambda: None, progress=quiet)
    chain.run(STAGES)
    return path


def test_after_a_run(plan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = finished_run(tmp_path, monkeypatch)
    logs = tmp_path / "run" / "logs"
    for log in logs.glob("*/*.json"):
        log.write_text(json.dumps({**json.loads(log.read_text()), "seconds": 40.0}))
    found = as_json(plan(str(path), "--run-dir", "run", "--json", "--set", "train.steps=500")[1])
    assert found["counts"]["exact"] is True
    assert (found["counts"]["votes"], found["counts"]["images"]) == (14, 24)
    assert found["counts"]["prompts"] == {"test": 3, "train": 8, "validation": 1}
    taken = {stage["stage"]: stage for stage in found["taken"]}
    assert list(taken) == list(STAGES)
    planned = {stage["stage"]: stage for stage in found["stages"]}
    train = taken["train"]
    assert train["taken_seconds"] == 40.0
    assert train["ratio"] == pytest.approx(40.0 / train["planned_seconds"])
    assert train["flops_per_second"] == pytest.approx(train["flops"] / (40.0 * train["devices"]))
    assert train["flops"] == pytest.approx(planned["train"]["flops"] * 60 / 500), "the run had 60 steps"
    out = plan(str(path), "--run-dir", "run")[1]
    assert "Planned and taken:" in out.splitlines()


def test_a_stage_without_its_config_is_left_out_and_named(
    plan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished_run(tmp_path, monkeypatch)
    (tmp_path / "run" / "logs" / "train" / "config.yaml").write_text("name: 3")
    found = as_json(plan(str(path), "--run-dir", "run", "--json")[1])
    assert [stage["stage"] for stage in found["taken"]] == ["ingest", "inject", "score", "card", "evaluate"]
    assert any(note.startswith("train is not compared") for note in found["notes"])


def test_a_terminal_gets_tables() -> None:
    planned = make_plan(load_config(QUICKSTART), "nowhere")
    console = Console(force_terminal=True, width=160, record=True, file=io.StringIO())
    for topic in report.topics(planned):
        console.print(report.as_table(topic))
    text = console.export_text()
    assert "UNet forwards and backwards of the policy" in text
    assert "largest micro_batch" in text


def test_ray_is_not_even_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from prefopt.config import load_config; from prefopt.planning.plan import make_plan;"
        f"make_plan(load_config({QUICKSTART!r}), 'nowhere'); print('ray' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("preset", "write", "low", "high"),
    [
        ("sd15_lora", sd15_configs, 5, 15),
        pytest.param("sd15_full", sd15_configs, 20, 35, marks=pytest.mark.slow),
        pytest.param("sdxl_lora", sdxl_configs, 8, 20, marks=pytest.mark.slow),
        ("sdxl_full", sdxl_configs, 20, 45),
    ],
)
def test_presets_are_planned_from_configs_alone(
    plan: Command, tmp_path: Path, preset: str, write: Callable[[Path], Path], low: float, high: float
) -> None:
    model = write(tmp_path / "model")
    changes = ["--set", f"model.path={model}", "--set", "model.vae=null", "--pairs", "851293"]
    found = as_json(plan(str(EXAMPLES / f"{preset}.yaml"), *changes, "--json", "--gpu", "A100-80GB")[1])
    memory = found["memory"]
    taken = memory["stages"][memory["chosen"]]
    assert low < taken["needed"] / 2**30 < high
    assert taken["fits"]
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert stages["train"]["gpu_seconds"] > 3600
    assert stages["train"]["seconds_low"] < stages["train"]["seconds"] < stages["train"]["seconds_high"]
