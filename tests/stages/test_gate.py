"""The gate as a stage, over hand-made evaluations: which prompts and pairs count for what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefopt.config import parse_config
from prefopt.data.ids import digest, prompt_id
from prefopt.data.schema import IMAGES, PAIRS, VOTES
from prefopt.data.storage import Storage
from prefopt.distributed.evaluate import GAP_ROWS, PROMPT_ROWS, SCORE_ROWS
from prefopt.drift.check import without_champion
from prefopt.gate import Check, Decision, read_decision
from prefopt.stages import gate
from prefopt.stages.base import StageContext, StageOutput
from tests.kit.data import config_tree
from tests.kit.stages import finished, pair_row

DECIDING = [f"decides {n}" for n in range(30)]
AUDIT = [f"audit {n}" for n in range(10)]
PAIRS_COUNT = 40
NONE = {"place": "none.txt", "sha256": "e" * 64, "pairs": 0}
INGEST = digest("champion's ingest") * 2


def night(place: Path, *, champion: bool = True, audit: bool = True, **config: Any) -> StageContext:
    """A night whose parents are still to be made."""
    sets = [
        {"kind": "file", "name": "fixed", "path": str(place / "a.txt")},
        {"kind": "file", "name": "audit", "path": str(place / "b.txt")},
    ]
    chosen = {"reward": "world/style", "prompt_set": "audit"} if audit else None
    known = {"run": str(place / "champion"), "train": "a" * 64, "digest": "b" * 64, "ingest": INGEST, "score": "c" * 64}
    tree = config_tree(
        place,
        [{"kind": "world", "pairs": 10}],
        evaluate={
            "prompt_sets": sets,
            "rewards": ["world/true", "world/style"],
            "bootstrap": {"resamples": 200},
            "models": {"champion": "me/champion"} if champion else {},
        },
        gate={"audit": chosen, "slice_prompts": 3, **config},
        night={
            "number": 4,
            "after": "d" * 64,
            "champion": known if champion else None,
            "full": not champion,
            "level": 0.01,
            "replay": 0.3 if champion else 0.0,
            "audited": [5, 2],
            "fresh": NONE,
            "aside": NONE,
        },
    )
    return StageContext(
        config=parse_config(tree, "kit"),
        sources=(),
        parents={},
        output=Storage(str(place / "gate")),
        store=Storage(str(place / "store")),
        logs=Storage(str(place / "logs")),
        progress=lambda done, total, what: None,
    )


def evaluation(
    place: Path,
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    gaps: Mapping[str, Sequence[float]],
    distance: float,
) -> StageOutput:
    """scores[model][reward] over DECIDING and AUDIT; gaps[model] over the held-out pairs."""
    prompts = [
        {"prompt_id": prompt_id(text), "prompt": text, "set": name, "category": category, "challenge": ""}
        for name, texts in (("fixed", DECIDING), ("audit", AUDIT))
        for number, text in enumerate(texts)
        for category in [("animals", "people")[number % 2] if name == "fixed" else ""]
    ]
    tables = {"prompts-00000": pa.Table.from_pylist(prompts, schema=PROMPT_ROWS)}
    for model, by_reward in scores.items():
        rows = [
            {"prompt_id": prompt_id(text), "sample": 0, "reward": reward, "version": "1", "score": score}
            for reward, found in by_reward.items()
            for text, score in zip([*DECIDING, *AUDIT], found, strict=True)
        ]
        tables[f"scores-{model}-00000"] = pa.Table.from_pylist(rows, schema=SCORE_ROWS)
    for model, z in gaps.items():
        rows = [
            {"pair_id": digest("pair", str(n)), "draw": draw, "t": 1, "z": z[n]}
            for n in range(PAIRS_COUNT)
            for draw in (0, 1)
        ]
        tables[f"accuracy-{model}-00000"] = pa.Table.from_pylist(rows, schema=GAP_ROWS)
    across = {"base": 0.2, "tuned": 0.19}
    metrics = {
        "diversity": {
            "features": {"name": "vae", "version": "1"},
            "models": {name: {"across": {"value": value, "n": 40}} for name, value in across.items()},
        },
        "distance_from_base": {"models": {"tuned": {"value": distance}}},
    }
    (place / "evaluate").mkdir(parents=True)
    (place / "evaluate" / "metrics.json").write_text(json.dumps(metrics))
    return finished(place / "evaluate", "evaluate", tables, extra=["metrics.json"])


def ingested(
    directory: Path, pairs: Sequence[int], splits: Mapping[int, str] | None = None, **given: Any
) -> StageOutput:
    """An ingest stage of these pairs, all of the test split but for `splits`; one vote each, of two groups."""
    rows = [pair_row(n, f"held out {n}", (splits or {}).get(n, "test")) for n in pairs]
    votes = [
        {
            "vote_id": digest("vote", row["pair_id"]),
            "pair_id": row["pair_id"],
            "annotator": "ann",
            "group": "noir" if number % 4 == 0 else "majority",
            "label": 1.0,
            "time": "",
            "latest": True,
        }
        for number, row in zip(pairs, rows, strict=True)
    ]
    images = [
        {
            "image_id": row[side],
            "source": 0,
            "file": "kit",
            "row": 0,
            "column": "c",
            "width": 32,
            "height": 32,
            "bytes": 1,
        }
        for row in rows
        for side in ("image_0", "image_1")
    ]
    tables = {
        "pairs-00000": pa.Table.from_pylist(rows, schema=PAIRS),
        "votes-00000": pa.Table.from_pylist(votes, schema=VOTES),
        "images-00000": pa.Table.from_pylist(images, schema=IMAGES),
    }
    return finished(directory, "ingest", tables, **given)


def decided(
    context: StageContext,
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    gaps: Mapping[str, Sequence[float]] | None = None,
    *,
    distance: float = 0.05,
    trained: Sequence[int] = (),
) -> Decision:
    """What the gate finds; the champion has seen the first half of the held-out pairs, some of them in training."""
    place = Path(context.output.uri).parent
    ingested(
        place / "champion" / "ingest" / INGEST[:12],
        range(PAIRS_COUNT // 2),
        dict.fromkeys(trained, "train"),
        key=INGEST,
    )
    (place / "drift").mkdir()
    (place / "drift" / "drift.json").write_bytes(without_champion(3).encoded())
    parents = {
        "ingest": ingested(place / "ingest", range(PAIRS_COUNT)),
        "drift": finished(place / "drift", "drift", {}, extra=["drift.json"], count=1),
        "train": finished(place / "train", "train", {}, count=1),
        "evaluate": evaluation(place, scores, gaps or {}, distance),
    }
    result = gate.run(replace(context, parents=parents))
    assert result.files == ["decision.json", "decision.html"]
    return read_decision(context.output)


def scored(better: int, worse: int = 0, *, style: float = 0.0) -> dict[str, dict[str, list[float]]]:
    """A challenger that wins on the first prompts, loses on the last, and ties between; on the audit's prompts it ties
    on the true preference."""
    lead = [1.0] * better + [0.0] * (30 - better - worse) + [-1.0] * worse + [0.0] * 10
    flat = [0.0] * 40
    mine = {"world/true": lead, "world/style": [0.0] * 30 + [style] * 10}
    return {"base": dict.fromkeys(mine, flat), "champion": dict.fromkeys(mine, flat), "tuned": mine}


def named(decision: Decision, name: str) -> dict[str, Check]:
    return {check.of: check for check in decision.checks if check.name == name}


def test_a_better_challenger_passes_and_the_record_says_from_what(tmp_path: Path) -> None:
    context = night(tmp_path)
    gaps = {"tuned": [1.0] * PAIRS_COUNT, "champion": [1.0] * PAIRS_COUNT}
    found = decided(context, scored(24, 2), gaps)
    assert found.verdict == "better"
    main = found.checks[0]
    assert (main.name, main.prompts, main.level) == ("win_rate", 30, 0.01)
    assert main.value == pytest.approx((24 + 2) / 30)
    assert (found.number, found.after, found.champion, found.full) == (4, "d" * 64, "a" * 64, False)
    assert found.challenger == digest("train") * 2
    assert set(found.keys) == {"ingest", "drift", "evaluate"}
    assert set(named(found, "slice")) == {"fixed: animals", "fixed: people"}
    assert set(named(found, "accuracy")) == {"new pairs", "known pairs"}
    assert set(named(found, "group")) == {"majority", "noir"}


def test_the_audits_prompts_decide_nothing(tmp_path: Path) -> None:
    context = night(tmp_path)
    scores = scored(24)
    scores["tuned"]["world/true"][30:] = [-9.0] * 10
    found = decided(context, scores)
    assert (found.verdict, found.checks[0].prompts) == ("better", 30)
    assert found.audit is not None
    assert (found.audit.won, found.audit.lost, found.audit.total_won, found.audit.total_lost) == (0, 0, 5, 2)
    assert not found.needs_person


def test_an_audit_that_is_lost_asks_for_a_person(tmp_path: Path) -> None:
    found = decided(night(tmp_path), scored(24, style=-1.0))
    assert found.verdict == "better"
    assert found.audit is not None
    assert (found.audit.lost, found.audit.total_lost) == (10, 12)
    assert found.needs_person


def test_without_an_audit_its_set_decides_too(tmp_path: Path) -> None:
    found = decided(night(tmp_path, audit=False), scored(24))
    assert (found.audit, found.checks[0].prompts) == (None, 40)


def test_what_falls_is_named_and_stops_the_promotion(tmp_path: Path) -> None:
    champion = [1.0] * PAIRS_COUNT
    tuned = [1.0 if n % 4 else -1.0 for n in range(PAIRS_COUNT)]
    found = decided(night(tmp_path), scored(24), {"tuned": tuned, "champion": champion}, distance=0.3)
    assert found.verdict == "not_better"
    failed = {(check.name, check.of) for check in found.failed}
    assert failed == {
        ("accuracy", "new pairs"),
        ("accuracy", "known pairs"),
        ("group", "noir"),
        ("distance", "vae"),
    }
    assert named(found, "group")["noir"].value == -1.0
    assert named(found, "group")["majority"].value == 0.0


def test_a_pair_that_the_champion_was_trained_on_tells_nothing(tmp_path: Path) -> None:
    champion = [1.0] * PAIRS_COUNT
    tuned = [-1.0 if n < 10 else 1.0 for n in range(PAIRS_COUNT)]
    found = decided(night(tmp_path), scored(24), {"tuned": tuned, "champion": champion}, trained=range(10))
    assert found.verdict == "better"
    assert named(found, "accuracy")["known pairs"].prompts == 10


def test_the_first_challenger_meets_the_base(tmp_path: Path) -> None:
    context = night(tmp_path, champion=False)
    found = decided(context, scored(24), {"tuned": [1.0] * PAIRS_COUNT})
    assert (found.champion, found.full, found.verdict) == (None, True, "better")
    (accuracy,) = named(found, "accuracy").values()
    assert (accuracy.of, accuracy.value) == ("all pairs", 0.5)
