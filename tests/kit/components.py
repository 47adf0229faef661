"""Stages that are done, made up, under the key that a config gives them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefopt.config import RunConfig
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.platform.places import settled
from prefopt.stages.chain import Chain
from prefopt.stages.keys import NIGHT, STAGES


def finish_stage(
    config: RunConfig, run_dir: Path, stage: str, files: Mapping[str, str], summary: dict[str, Any] | None = None
) -> Storage:
    """A stage of a run or of a night that is done, with these files; its rows are twelve."""
    specs = NIGHT if config.night else STAGES
    tree, place = settled(config, str(run_dir))
    chain = Chain(tree, place, start_engine=lambda: None, progress=lambda *_: None, stages=specs)
    output = chain.directory(stage)
    for name, text in files.items():
        output.write_bytes(name, text.encode())
    manifest = Manifest(
        stage=stage,
        key=chain.key(stage),
        parents={name: chain.key(name) for name in specs[stage].parents},
        config_hash="0" * 64,
        code_version=1,
        commit="unknown",
        environment={},
        unit=specs[stage].unit,
        rows=Rows(in_=12, out=12),
        files=[describe_file(output, name) for name in sorted(files)],
        summary=summary or {},
    )
    commit_manifest(output, manifest)
    return output
