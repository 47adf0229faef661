"""Every preset in examples/ trains two steps on a tiny model of its family: all its settings but the sizes."""

import math
from pathlib import Path

import pytest

from prefopt.config import RunConfig, load_config
from prefopt.stages import train
from tests.kit.models import RESOLUTION, TINY, tiny_vae
from tests.kit.training import read_steps, training_context

EXAMPLES = Path(__file__).parents[1] / "examples"
PRESETS = [f"{family}_{method}" for family in TINY for method in ("lora", "full")]
SIZES = {
    "score.resolution": RESOLUTION,
    "score.visits.batch": 8,
    "train.steps": 2,
    "train.global_batch": 8,
    "train.micro_batch": 4,
    "train.workers": 1,
    "cluster.engine": "process",
    "train.precision": "bf16",
    "cluster.worker_gpus": 0,
    "cluster.threads": 1,
}
"""What a machine without a GPU changes. fp16 cannot be trained there; bf16 can."""


def tiny(name: str, root: Path) -> RunConfig:
    """A preset on a tiny model of its family, with a VAE of its own where the preset has one."""
    family, _ = name.split("_")
    path = EXAMPLES / f"{name}.yaml"
    places = {"store": root / "store", "model.path": TINY[family](root / "model")}
    if load_config(path).model.vae is not None:
        places["model.vae"] = root / "vae"
        tiny_vae(seed=9).save_pretrained(str(root / "vae"))
    return load_config(path, [f"{key}={value}" for key, value in {**SIZES, **places}.items()])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_two_steps(tmp_path: Path, name: str) -> None:
    config = tiny(name, tmp_path)
    context = training_context(tmp_path, config)
    result = train.run(context)
    lines = read_steps(Path(context.output.path("")))
    optimizer = config.train.optimizer
    rates = [optimizer.lr * min(1.0, (step + 1) / max(1, optimizer.warmup_steps)) for step in (0, 1)]
    assert [line["lr"] for line in lines] == pytest.approx(rates)
    assert [line["skipped"] for line in lines] == [False, False]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=0.05)
    assert lines[1]["loss"] != lines[0]["loss"]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    assert result.summary["objective"] == config.train.objective.name
    written = {"lora": "model/pytorch_lora_weights.safetensors", "full": "model/model_index.json"}
    assert written[config.train.method] in result.files
