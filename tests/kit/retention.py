"""Whole runs with a store, made without Ray and without models: ingest and inject are real, the rest is laid there."""

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefopt.config import RunConfig
from prefopt.data.ids import digest, prompt_id
from prefopt.data.keys import KINDS, generated_key, reference_keys, reward_key
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file, verify
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.users import note_user
from prefopt.data.visits import latent_key, visit_id
from prefopt.stages.chain import Chain
from prefopt.stages.keys import STAGES
from tests.kit.data import quiet, small_config, table, write_parquet

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "x0": {"vae": "v"},
    "inverted": {"model": "m"},
    "references": {"model": "m"},
    "rewards": {"reward": "world/true", "version": "1", "batch": 8},
}
SUMMARY = {"reward world/true": "1"}
DAY = 86_400


@dataclass(frozen=True)
class MadeRun:
    """A run in which every stage is done."""

    place: Path
    config: RunConfig
    store: Storage
    pairs: list[dict[str, Any]]
    votes: list[dict[str, Any]]

    def chain(self, config: RunConfig | None = None) -> Chain:
        """Its stages; nothing may be started."""
        engine = lambda: pytest.fail("there is nothing to do")  # noqa: E731
        return Chain(config or self.config, str(self.place), start_engine=engine, progress=quiet)

    def pair(self, prompt: str) -> dict[str, Any]:
        """The pair of a prompt."""
        (found,) = [pair for pair in self.pairs if pair["prompt"] == prompt]
        return found

    def directory(self, stage: str) -> Path:
        """Where a stage lies."""
        (found,) = [place for place in (self.place / stage).iterdir() if place.is_dir()]
        return found


def make_run(
    place: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    model: str = "tuned",
    owners: bool = True,
    fresh: bool = False,
    **branches: Any,
) -> MadeRun:
    """A run on its own file of rows in the Pick-a-Pic schema, with the store that all runs at `place` share.

    `owners`: the store's rows say what they were made from. `fresh`: leave out what follows inject.
    """
    path = write_parquet(place / f"data-{name}" / "x.parquet", [dict(row) for row in rows])
    config = small_config(place, [{"kind": "pickapic", "path": str(path.parent)}], **branches)
    chain = Chain(config, str(place / name), start_engine=lambda: None, progress=quiet)
    ingest = chain.run(["ingest", "inject"])[0].output
    pairs, votes = table(ingest, "pairs-"), table(ingest, "votes-")
    made = MadeRun(place / name, config, Storage(config.store), pairs, votes)
    note_user(made.store, Storage(str(made.place)))
    if not fresh:
        visits = _visits(pairs, votes)
        _fill_store(made.store, pairs, visits, model, owners)
        _lay(chain, "score", _score_tables(pairs, visits), SUMMARY, count=len(pairs))
        _lay(chain, "card", {}, {}, count=len(votes), data_card_html=_card_page(pairs, votes))
        _lay(chain, "train", {"minority": visits.select(["visit_id", "pair_id", "vote_id"])}, {},
             count=visits.num_rows, model=model.encode())  # fmt: skip
        _lay(chain, "evaluate", _drawn_tables(pairs, model), {}, count=2 * len(pairs), report_html=_report(pairs))
        for stage in ("score", "card", "train", "evaluate"):
            chain.run([stage])
    return made


def copies(runs: Sequence[MadeRun], place: Path) -> list[MadeRun]:
    """The same runs and their store below another directory: cheaper than to make them again."""
    shutil.copytree(runs[0].place.parent, place, dirs_exist_ok=True)
    shutil.rmtree(place / "store" / "runs")
    made = []
    for run in runs:
        config = run.config.model_copy(update={"store": str(place / "store")})
        made.append(replace(run, place=place / run.place.name, config=config, store=Storage(config.store)))
        note_user(made[-1].store, Storage(str(made[-1].place)))
    return made


def age(place: Path, days: float) -> None:
    """Make everything look as old as that."""
    then = time.time() - days * DAY
    for path in place.rglob("*"):
        os.utime(path, (then, then))


def _visits(pairs: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Two visits of each vote."""
    images = {pair["pair_id"]: pair for pair in pairs}
    rows = []
    for vote in votes:
        pair = images[vote["pair_id"]]
        for draw in range(2):
            visit = visit_id(pair["pair_id"], 2 * votes.index(vote) + draw, 0)
            latents = {f"latent_key_{side}": latent_key(pair[f"image_{side}"], bool(draw)) for side in (0, 1)}
            fixed = {"t_0": 5, "t_1": 5, "flip_0": bool(draw), "flip_1": bool(draw), "drop_prompt": False}
            ids = {"pair_id": pair["pair_id"], "vote_id": vote["vote_id"], "label": vote["label"], "draw": draw}
            inverted = {"inverted_key": digest("inverted", visit)}
            rows.append({"position": len(rows), "visit_id": visit, **ids, **fixed, **latents, **inverted})
    return pa.Table.from_pylist(rows, schema=VISITS)


def _fill_store(store: Storage, pairs: Sequence[Mapping[str, Any]], visits: pa.Table, model: str, owners: bool) -> None:
    sides = [(pair, pair[side]) for pair in pairs for side in ("image_0", "image_1")]
    images = sorted({image for _, image in sides})
    latents = [(latent_key(image, flip), image) for image in images for flip in (False, True)]
    scored = sorted({(reward_key(image, pair["prompt"]), image) for pair, image in sides})
    by_visit = visits["pair_id"].to_pylist()
    _append(store, "x0", FAMILIES["x0"], latents, "image_id", owners)
    _append(store, "rewards", FAMILIES["rewards"], scored, "image_id", owners)
    inverted = zip(visits["inverted_key"].to_pylist(), by_visit, strict=True)
    _append(store, "inverted", FAMILIES["inverted"], inverted, "pair_id", owners)
    _append(
        store,
        "references",
        FAMILIES["references"],
        zip(reference_keys(visits), by_visit, strict=True),
        "pair_id",
        owners,
    )
    for drawn in ("base", model):
        rows = [(generated_key(pair["prompt"], 0), prompt_id(pair["prompt"])) for pair in pairs]
        png = {generated_key(pair["prompt"], 0): picture_of(drawn, pair["prompt"]) for pair in pairs}
        _append(store, "generated", {"model": drawn}, rows, "prompt_id", owners, png)


def _append(
    store: Storage,
    kind: str,
    family: Mapping[str, Any],
    rows: Iterable[tuple[str, str]],
    owner: str,
    owners: bool,
    png: Mapping[str, bytes] | None = None,
) -> None:
    """Rows that the store lacks, in parts of ten."""
    opened = RowStore(store, kind, family)
    opened.refresh()
    told = dict(rows)
    missing = opened.missing(told)
    for start in range(0, len(missing), 10):
        keys = missing[start : start + 10]
        value = [png[key] if png else digest("value", key).encode() for key in keys]
        told_of = {owner: [told[key] for key in keys]} if owners else {}
        column = "png" if png else "value"
        opened.append(pa.table({"key": keys, **told_of, column: pa.array(value, pa.binary())}))


def picture_of(model: str, prompt: str) -> bytes:
    """Stands for the image that a model has drawn."""
    return f"{model} drew {prompt_id(prompt)}".encode()


def _score_tables(pairs: Sequence[Mapping[str, Any]], visits: pa.Table) -> dict[str, pa.Table]:
    scores = pa.table({"pair_id": [pair["pair_id"] for pair in pairs], "u": [0.1] * len(pairs)})
    sides = sorted({(pair[side], prompt_id(pair["prompt"])) for pair in pairs for side in ("image_0", "image_1")})
    images, prompts = zip(*sides, strict=True)
    rewards = pa.table({"image_id": images, "prompt_id": prompts, "score": [0.5] * len(sides)})
    return {"scores-00000": scores, "rewards-00000": rewards, "visits-00000": visits}


def _drawn_tables(pairs: Sequence[Mapping[str, Any]], model: str) -> dict[str, pa.Table]:
    prompts = sorted({pair["prompt"] for pair in pairs})
    ids = [prompt_id(prompt) for prompt in prompts]
    found = {"prompts-00000": pa.table({"prompt_id": ids, "prompt": prompts, "set": ["heldout"] * len(ids)})}
    for name, drawn in (("base", "base"), ("tuned", model)):
        png = [picture_of(drawn, prompt) for prompt in prompts]
        images = {"prompt_id": ids, "prompt": prompts, "sample": pa.array([0] * len(ids), pa.int32())}
        found[f"images-{name}-00000"] = pa.table({**images, "png": pa.array(png, pa.binary())})
        found[f"scores-{name}-00000"] = pa.table({"prompt_id": ids, "score": [1.0] * len(ids)})
    found["accuracy-00000"] = pa.table({"pair_id": [pair["pair_id"] for pair in pairs], "z": [0.1] * len(pairs)})
    return found


def _card_page(pairs: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]]) -> bytes:
    told = [*(f"{pair['image_0']} {pair['prompt']}" for pair in pairs), *(vote["annotator"] for vote in votes)]
    return f"<p>{' '.join(told)}</p>".encode()


def _report(pairs: Sequence[Mapping[str, Any]]) -> bytes:
    return f"<p>{' '.join(pair['prompt'] for pair in pairs)}</p>".encode()


def _lay(
    chain: Chain, stage: str, tables: Mapping[str, pa.Table], summary: Mapping[str, Any], *, count: int, **files: bytes
) -> None:
    """Commit a stage's output under the key that the chain gives it."""
    context, names = chain.context(stage), {"data_card_html": "data-card.html", "report_html": "report.html"}
    names["model"] = "model/pytorch_lora_weights.safetensors"
    for name, found in tables.items():
        context.output.write_table(f"{name}.parquet", found)
    for name, content in files.items():
        context.output.write_bytes(names[name], content)
    written = [*(f"{name}.parquet" for name in tables), *(names[name] for name in files)]
    manifest = Manifest(
        stage=stage,
        key=context.key,
        parents={name: parent.manifest.key for name, parent in context.parents.items()},
        config_hash="0" * 64,
        code_version=1,
        commit="unknown",
        environment={},
        unit=STAGES[stage].unit,
        rows=Rows(in_=count, out=count),
        files=[describe_file(context.output, name) for name in sorted(written)],
        summary=dict(summary),
    )
    commit_manifest(context.output, manifest)


def snapshot(place: Path) -> dict[str, Any]:
    """Every file below a directory: tables by their rows, so that it does not matter how they are cut; no notes."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if not path.is_file():
            continue
        if path.suffix == ".parquet" and set(KINDS) & set(path.parts):
            rows = pq.read_table(path).to_pylist()
            found.setdefault(path.parent.relative_to(place).as_posix(), []).extend(str(row) for row in rows)
        else:
            found[name] = path.read_bytes()
    return {name: sorted(set(rows)) if isinstance(rows, list) else rows for name, rows in found.items()}


def holders(place: Path, needle: str) -> list[str]:
    """Files that hold a text, in a table's cell or as they are."""
    found = []
    for path in sorted(place.rglob("*")):
        if path.is_file():
            cells = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
            if needle in cells or needle.encode() in path.read_bytes():
                found.append(path.relative_to(place).as_posix())
    return found


def all_whole(place: Path) -> None:
    """Every manifest of a run fits its files."""
    manifests = list(place.rglob("manifest.json"))
    assert manifests
    for manifest in manifests:
        assert verify(Storage(str(manifest.parent))) == [], manifest
