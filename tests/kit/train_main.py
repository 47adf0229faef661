"""The train stage of a made-up run, as a process: `python -m tests.kit.train_main ROOT NAME [OPTIONS]`."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from prefopt.data.storage import Storage
from prefopt.stages import train
from tests.kit.slow_storage import SlowStorage
from tests.kit.training import training_config, training_context

OBJECTIVE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 1}}


def main(root: Path, name: str, options: dict[str, Any]) -> None:
    """`options`: `engine`, `train` (fields of the config), `uri` (of the output), `hold` (a write that never ends)."""
    settings = {"workers": 2, "steps": 40, "checkpoint_every": 2, "objective": OBJECTIVE, **options.get("train", {})}
    engine = options.get("engine", "ray")
    config = training_config(root / "model", root / "store", engine=engine, **settings)
    context = training_context(root / name, config)
    if "uri" in options:
        uri = options["uri"]
        context = replace(context, output=Storage(f"{uri}/train"), logs=Storage(f"{uri}/logs"))
    if "hold" in options:
        context = replace(context, output=SlowStorage(context.output.uri, options["hold"]))
    if engine == "ray":
        ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    train.run(context)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
