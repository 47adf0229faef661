"""Run stages in order: skip what is done, commit what is new."""

import functools
import importlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefopt.config import RunConfig, dump_config
from prefopt.data.ids import canonical_hash
from prefopt.data.manifest import (
    MANIFEST,
    Manifest,
    commit_manifest,
    describe_file,
    is_complete,
    read_manifest,
    stage_key,
)
from prefopt.data.storage import Storage
from prefopt.data.users import note_user
from prefopt.errors import InputError
from prefopt.models.identity import with_absolute_places
from prefopt.stages.base import RunStage, StageContext, StageOutput
from prefopt.stages.keys import STAGES, Outside, StageSpec
from prefopt.stages.outside import look_outside

if TYPE_CHECKING:
    from prefopt.distributed.units import Progress

_LIBRARIES = ("torch", "ray", "deepspeed", "diffusers", "transformers", "peft", "pyarrow")
_AT_TOP = ("report.html", "report.md", "metrics.json", "data-card.html", "decision.html", "decision.json")


@dataclass(frozen=True)
class StageOutcome:
    """What became of a stage."""

    name: str
    skipped: bool
    output: StageOutput


class Chain:
    """Stages in one directory: those of a run, or of a comparison."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: str,
        *,
        start_engine: Callable[[], object],
        progress: "Progress",
        stages: Mapping[str, StageSpec] = STAGES,
    ) -> None:
        """`start_engine` is called before the first stage that has work to do. ConfigError if nothing can be
        written to the run directory or the store; InputError if a source or the model is not there."""
        config = with_absolute_places(config)
        self._config, self._run, self._store = config, Storage(run_dir), Storage(config.store)
        self._run.check_writable()
        self._store.check_writable()
        self._start_engine, self._progress = functools.cache(start_engine), progress
        self._outside: Outside = look_outside(config, self._store)
        self._keys: dict[str, str] = {}
        self._stages = stages
        for spec in stages.values():
            parents = {name: self._keys[name] for name in spec.parents}
            self._keys[spec.name] = stage_key(spec.name, spec.code_version, spec.slice(config, self._outside), parents)

    def key(self, stage: str) -> str:
        """Of what a stage's output is, or will be."""
        return self._keys[stage]

    def directory(self, stage: str) -> Storage:
        """Where a stage's output lies."""
        return self._run.child(f"{stage}/{self._keys[stage][:12]}")

    def is_done(self, stage: str) -> bool:
        """Whether a stage's output is there and whole."""
        return is_complete(self.directory(stage), self._keys[stage])

    def adopt(self, stage: str, other: "Chain") -> None:
        """Copy a stage's output and times, unless they are here, from a chain that has finished the very same stage."""
        if self.is_done(stage):
            self._note(self._stages[stage], self.directory(stage))
            return
        given, mine = other.finished(stage, needed_by=stage), self.directory(stage)
        assert given.manifest.key == self._keys[stage], "only the same stage can be taken over"
        for file in given.manifest.files:
            mine.write_bytes(file.path, given.storage.read_bytes(file.path))
        times = f"logs/{stage}/{self._keys[stage][:12]}.json"
        self._run.write_bytes(times, other._run.read_bytes(times))
        mine.write_bytes(MANIFEST, given.storage.read_bytes(MANIFEST))
        self._note(self._stages[stage], mine)

    def run(self, stages: Iterable[str]) -> list[StageOutcome]:
        """Run these stages in order, skipping what is done. InputError if a stage lacks a parent's output."""
        return [self._run_stage(self._stages[name]) for name in stages]

    def _run_stage(self, spec: StageSpec) -> StageOutcome:
        output = self.directory(spec.name)
        skipped = self.is_done(spec.name)
        if not skipped:
            self._execute(spec, self.context(spec.name))
        manifest = read_manifest(output)
        self._note(spec, output)
        return StageOutcome(spec.name, skipped, StageOutput(output, manifest))

    def finished(self, stage: str, needed_by: str) -> StageOutput:
        """The output of a finished stage; InputError if this run does not hold it."""
        if not self.is_done(stage):
            raise InputError(
                f"{needed_by} needs the output of {stage}, which {self._run.uri} does not hold for this config:"
                f" run `prefopt {stage}` first, or `prefopt run` for the whole chain."
            )
        directory = self.directory(stage)
        return StageOutput(directory, read_manifest(directory))

    def context(self, stage: str) -> StageContext:
        """What a stage would run with. InputError if a parent's output is not there."""
        return StageContext(
            config=self._config,
            sources=self._outside.sources,
            parents={name: self.finished(name, needed_by=stage) for name in self._stages[stage].parents},
            output=self.directory(stage),
            store=self._store,
            logs=self._run.child(f"logs/{stage}"),
            progress=self._progress,
            source_digests=self._outside.source_digests,
            key=self._keys[stage],
            withdrawn=self._outside.withdrawn,
        )

    def _execute(self, spec: StageSpec, context: StageContext) -> None:
        note_user(self._store, self._run)
        self._start_engine()
        started, output = time.monotonic(), context.output
        run_stage: RunStage = importlib.import_module(f"prefopt.stages.{spec.name}").run
        result = run_stage(context)
        seconds = {"seconds": round(time.monotonic() - started, 3), "host": platform.node()}
        context.logs.write_bytes("config.yaml", dump_config(self._config).encode())
        context.logs.write_bytes(f"{self._keys[spec.name][:12]}.json", json.dumps(seconds).encode())
        config_slice = spec.slice(self._config, self._outside)
        commit_manifest(
            output,
            Manifest(
                stage=spec.name,
                key=self._keys[spec.name],
                parents={name: self._keys[name] for name in spec.parents},
                config_hash=canonical_hash(config_slice),
                code_version=spec.code_version,
                commit=_git_commit(),
                environment=_environment(),
                unit=spec.unit,
                rows=result.rows,
                files=[describe_file(output, path) for path in sorted(result.files)],
                summary=result.summary,
            ),
        )
        output.delete("work")
        output.sweep()

    def _note(self, spec: StageSpec, output: Storage) -> None:
        noted = json.loads(self._run.read_bytes("run.json")) if self._run.exists("run.json") else {}
        if noted.get(spec.name) != self._keys[spec.name]:
            noted[spec.name] = self._keys[spec.name]
            self._run.write_bytes("run.json", json.dumps(noted, indent=1, sort_keys=True).encode())
        for name in _AT_TOP:
            if output.exists(name):
                made = output.read_bytes(name)
                if not self._run.exists(name) or self._run.read_bytes(name) != made:
                    self._run.write_bytes(name, made)


def _environment() -> dict[str, str]:
    return {**{name: importlib.metadata.version(name) for name in _LIBRARIES}, "cpu": cpu_kind()}


def cpu_kind() -> str:
    """The instruction set that decides the last bits of a result, for example `x86_64 avx512f`."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if flag in flags), "")
    return f"{platform.machine()} {widest}".strip()


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
