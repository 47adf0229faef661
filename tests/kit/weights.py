"""Weights to start from, made up: LoRA directories, and directories of runs that have trained."""

import json
from pathlib import Path

import torch

from prefopt.config.train import LoraConfig
from prefopt.data.ids import digest, row_normal
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.models.adapters import POLICY, adapter_parameters, add_adapters, save_adapter

LORA = LoraConfig(rank=4, alpha=4.0)


def lora_directory(directory: Path, unet: torch.nn.Module, seed: int = 0, config: LoraConfig = LORA) -> Path:
    """Write random LoRA weights for a UNet, which is changed; returns the directory."""
    add_adapters(unet, config, (POLICY,), seed)
    values = {
        key: torch.from_numpy(row_normal(tuple(value.shape), seed, "kit", key)) * 0.2
        for key, value in adapter_parameters(unet, POLICY).items()
    }
    save_adapter(directory, values, config)
    return directory


def finished_run(directory: Path, summary: dict[str, str]) -> Path:
    """Make the files in `directory`/model those of a run's finished train stage; returns the run's directory."""
    key = digest("run", str(sorted(summary.items())))
    stage = directory / "train" / key[:12]
    stage.mkdir(parents=True)
    (directory / "model").rename(stage / "model")
    storage = Storage(str(stage))
    manifest = Manifest(
        stage="train",
        key=key,
        parents={},
        config_hash="",
        code_version=1,
        commit="",
        environment={},
        unit="visit",
        rows=Rows(**{"in": 0, "out": 0}),
        files=[describe_file(storage, name) for name in storage.files()],
        summary=dict(summary),
    )
    commit_manifest(storage, manifest)
    (directory / "run.json").write_text(json.dumps({"train": key}))
    return directory
