"""Histories of champions with hand-made decisions and models: no training, no Ray."""

import json
from pathlib import Path
from typing import Any

from prefopt.data.ids import digest
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.gate import DECISION, Audit, Check, Decision
from prefopt.gate.decision import encoded
from prefopt.registry import Champion, Registry, champion_of


def made_champion(run: Path, content: bytes = b"weights") -> Champion:
    """A run with a finished train stage whose model is a few bytes."""
    key = digest(str(run), "train") * 2
    stage = Storage(str(run / "train" / key[:12]))
    stage.write_bytes("model/model_index.json", b"{}")
    stage.write_bytes("model/unet/diffusion_pytorch_model.safetensors", content)
    files = [describe_file(stage, name) for name in stage.files()]
    parents = {name: digest(str(run), name) * 2 for name in ("ingest", "score")}
    commit_manifest(
        stage,
        Manifest(
            stage="train",
            key=key,
            parents=parents,
            config_hash="0" * 64,
            code_version=1,
            commit="unknown",
            environment={},
            unit="visit",
            rows=Rows(in_=1, out=1),
            files=files,
        ),
    )
    (run / "run.json").write_text(json.dumps({"train": key}))
    return champion_of(str(run))


def made_decision(place: Path, *, better: bool = True, full: bool = False, audit: tuple[int, int] | None = None) -> str:
    """The place of a decision record."""
    check = Check(
        name="win_rate",
        of="r",
        answer="passed" if better else "failed",
        value=0.6,
        bound=0.5,
        prompts=10,
        p=0.01,
        level=0.02,
    )
    decision = Decision(
        number=1,
        after=None,
        champion=None,
        challenger="c" * 64,
        full=full,
        verdict="better" if better else "not_better",
        checks=[check],
        audit=_audit(*audit) if audit else None,
        drift=[],
        keys={},
    )
    place.mkdir(parents=True)
    (place / DECISION).write_bytes(encoded(decision))
    return f"{place}/{DECISION}"


def _audit(won: int, lost: int) -> Audit:
    return Audit(reward="r", prompt_set="s", won=won, lost=lost, total_won=won, total_lost=lost, tolerance=0.05)


def add(registry: Registry, action: Any, model: Champion | None, decision: str | None = None) -> None:
    """A record after all that are there."""
    registry.add(registry.history(), action, model, by="kit", decision=decision)
