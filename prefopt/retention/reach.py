"""What kept runs reach in a store: by keys and ids in the tables of their finished stages."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.keys import GENERATED, INVERTED, LATENTS, REFERENCES, REWARDS, generated_key, reward_key
from prefopt.data.storage import Storage
from prefopt.data.store import KEY
from prefopt.data.visits import latent_key
from prefopt.errors import InputError
from prefopt.retention.keeping import Kept
from prefopt.retention.parts import Doomed, families
from prefopt.retention.runs import FinishedStage

_REWARD = "reward "
"""Begins the summary's entries that name a reward and its version."""


@dataclass
class Reach:
    """Ids and keys that must stay."""

    pairs: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    keys: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in (INVERTED, REWARDS, GENERATED)})
    planning: set[str] = field(default_factory=set)
    """Pairs of runs that have not planned their visits yet."""
    rewards: set[tuple[str, str]] | None = field(default_factory=set)
    """Names and versions; None where a run that has not scored yet may need any."""
    drawn: set[str] = field(default_factory=set)
    """Families of images that kept evaluations took theirs from."""
    sources: set[str] = field(default_factory=set)
    """sha256 of source files."""
    unknown: list[str] = field(default_factory=list)
    """Runs at work of which it cannot be told yet what they need."""

    def doomed(self, kind: str) -> Doomed:
        """Which rows of a kind nothing reaches."""
        keys, pairs = _array(self._keys(kind)), _array(self.pairs if kind == REFERENCES else self.planning)

        def unreached(rows: pa.Table) -> pa.Array:
            if kind == REFERENCES:
                # whose errors a row of an earlier version holds cannot be told: it stays
                told = "pair_id" in rows.column_names
                return pc.invert(_among(rows, "pair_id", pairs)) if told else _none(rows)
            reached = _among(rows, KEY, keys)
            if kind == INVERTED:
                reached = pc.or_(reached, _among(rows, "pair_id", pairs))
            return pc.invert(reached)

        return unreached

    def _keys(self, kind: str) -> set[str]:
        if kind == LATENTS:
            return {latent_key(image, flip) for image in self.images for flip in (False, True)}
        return self.keys.get(kind, set())


def _array(ids: set[str]) -> pa.Array:
    return pa.array(sorted(ids), pa.string())


def _among(rows: pa.Table, column: str, ids: pa.Array) -> pa.Array:
    return pc.is_in(rows[column], ids).combine_chunks() if column in rows.column_names else _none(rows)


def _none(rows: pa.Table) -> pa.Array:
    return pa.array([False] * rows.num_rows, pa.bool_())


def reach_of(kept: Sequence[Kept], store: Storage, working: set[str]) -> Reach:
    """What these runs reach; `working`: places of runs at work."""
    reach = Reach()
    for one in kept:
        stages = [one.run.stage(place) for place in sorted(one.stages) if one.run.is_finished(place)]
        by_name: dict[str, list[FinishedStage]] = {}
        for stage in stages:
            by_name.setdefault(stage.manifest.stage, []).append(stage)
        if one.run.place in working and "ingest" not in by_name:
            reach.unknown.append(one.run.name)
        for stage in by_name.get("ingest", []):
            _add_ingest(reach, stage, planned="score" in by_name and one.run.place not in working)
        for stage in by_name.get("score", []):
            _add_score(reach, stage)
        if reach.rewards is not None and "score" not in by_name and "ingest" in by_name:
            reach.rewards = None
        for stage in (*by_name.get("evaluate", []), *by_name.get("compare", [])):
            _add_drawn(reach, stage, store)
    return reach


def _add_ingest(reach: Reach, stage: FinishedStage, *, planned: bool) -> None:
    pairs = stage.table("pairs-", ["pair_id", "prompt", "image_0", "image_1"])
    for row in pairs.to_pylist() if pairs is not None else ():
        reach.pairs.add(row["pair_id"])
        for side in ("image_0", "image_1"):
            reach.images.add(row[side])
            reach.keys[REWARDS].add(reward_key(row[side], row["prompt"]))
        if not planned:
            reach.planning.add(row["pair_id"])
    sources = stage.table("sources", ["sha256"])
    if sources is not None:
        reach.sources |= set(sources["sha256"].to_pylist())


def _add_score(reach: Reach, stage: FinishedStage) -> None:
    visits = stage.table("visits-", ["inverted_key"])
    if visits is not None:
        reach.keys[INVERTED] |= set(pc.unique(visits["inverted_key"]).to_pylist()) - {""}
    if reach.rewards is not None:
        summary = stage.manifest.summary
        named = {name: str(version) for name, version in summary.items() if name.startswith(_REWARD)}
        reach.rewards |= {(name.removeprefix(_REWARD), version) for name, version in named.items()}


def _add_drawn(reach: Reach, stage: FinishedStage, store: Storage) -> None:
    """Keys of an evaluation's images, and the families of the store that hold the very same ones."""
    for file in stage.manifest.files_like("images-"):
        table = stage.storage.read_table(file, ["prompt", "sample"])
        rows = list(zip(table["prompt"].to_pylist(), table["sample"].to_pylist(), strict=True))
        reach.keys[GENERATED] |= {generated_key(prompt, sample) for prompt, sample in rows}
        if rows:
            first = stage.storage.read_rows(file, 0, 1)
            png = first["png"].to_pylist()[0]
            reach.drawn |= set(_families_with(store, generated_key(*rows[0]), png))


def _families_with(store: Storage, key: str, png: bytes) -> Iterator[str]:
    for family, parts in families(store, GENERATED):
        if any(_has(store, part, key, png) for part in parts):
            yield family


def _has(store: Storage, part: str, key: str, png: bytes) -> bool:
    if key not in store.read_table(part, [KEY])[KEY].to_pylist():
        return False
    found: list[bytes] = store.read_table(part, [KEY, "png"], [(KEY, "==", key)])["png"].to_pylist()
    return found == [png]


def unscored(reach: Reach, store: Storage, family: str) -> bool:
    """Whether a family of rewards is of a reward or a version that no kept run has used."""
    if reach.rewards is None or not store.exists(f"{family}/family.json"):
        return False
    try:
        told = json.loads(store.read_bytes(f"{family}/family.json"))
        return (told["reward"], told["version"]) not in reach.rewards
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{store.uri}/{family}/family.json is damaged: remove the directory, to be made anew."
        ) from None
