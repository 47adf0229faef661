"""Erasing what is gone: rows of a store, and of a run's stages, cards, pages and exported keys."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefopt.data.keys import (
    GENERATED,
    INVERTED,
    KINDS,
    LATENTS,
    REFERENCES,
    REWARDS,
    generated_key,
    reference_keys,
    reward_key,
)
from prefopt.data.manifest import MANIFEST
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.visits import latent_key
from prefopt.errors import StorageError
from prefopt.human.pairs import KEY, RESULTS, SUMMARY, Key
from prefopt.retention.gone import ID_COLUMNS, Gone
from prefopt.retention.parts import Doomed, Tally, families, remove_empty, remove_rows
from prefopt.retention.rewrite import PAGES, Rewrite, carry_out
from prefopt.retention.runs import FORGETTING, NOTES, Run

CARD, _CARD_PAGE = "card", "data-card.html"
_SAMPLES = 256
"""Images of a prompt that are looked for in parts of a store which do not say what their rows were made from."""


def erase_from_store(store: Storage, gone: Gone, runs: Sequence[Run], *, dry_run: bool) -> Tally:
    """Rows of every kind; `runs` tell the keys of rows that do not say what they were made from."""
    done = Tally()
    keys = _keys(gone, runs)
    for kind in KINDS:
        doomed = _doomed(gone, keys[kind])
        for family, parts in families(store, kind):
            for part, info in parts.items():
                done.add(kind, remove_rows(store, part, info, doomed, dry_run=dry_run))
            if not dry_run:
                remove_empty(store, family)
    return done


def _doomed(gone: Gone, keys: set[str]) -> Doomed:
    wanted = pa.array(sorted(keys), pa.string())

    def doomed(rows: pa.Table) -> pa.Array:
        return pc.or_(gone.rows(rows), pc.is_in(rows["key"], wanted).combine_chunks())

    return doomed


def _keys(gone: Gone, runs: Sequence[Run]) -> dict[str, set[str]]:
    """Keys that follow from ids, by kind."""
    keys: dict[str, set[str]] = {kind: set() for kind in KINDS}
    keys[REWARDS] = {reward_key(*scored) for scored in gone.scored}
    keys[LATENTS] = {latent_key(image, flip) for image in gone.images for flip in (False, True)}
    keys[GENERATED] = {generated_key(text, n) for text in gone.prompts for n in range(_SAMPLES)}
    for run in runs:
        for stage in run.of("score"):
            visits = stage.table("visits-", VISITS.names)
            if visits is not None:
                mine = visits.filter(pc.is_in(visits["pair_id"], pa.array(sorted(gone.pairs), pa.string())))
                keys[INVERTED] |= set(mine["inverted_key"].to_pylist()) - {""}
                keys[REFERENCES] |= set(reference_keys(mine))
    return keys


def erase_rewrites(run: Run, rewrites: Sequence[Rewrite], *, dry_run: bool) -> dict[str, int]:
    """Rewrite stages; gives the rows that went, by directory."""
    for made in rewrites:
        if not dry_run:
            carry_out(made)
    return {f"{run.name}/{made.stage.place}": made.rows for made in rewrites}


def _copy_pages(run: Run) -> None:
    """What a run shows at its top is what its stages hold."""
    for stage, key in run.notes.items():
        for name, page in PAGES.items():
            own = f"{stage}/{key[:12]}/{name}"
            shown = run.storage.exists(own) and run.storage.exists(name) and run.storage.read_bytes(own) == page
            if shown and run.storage.read_bytes(name) != page:
                run.storage.write_bytes(name, page)


def erase_around(run: Run, gone: Gone, *, touched: bool, dry_run: bool) -> list[str]:
    """Cards, unfinished stages and exported keys that hold some of it; gives what went whole.

    `touched`: some of it was in the run's pairs and votes, so that its data cards may show it.
    """
    removed = _work(run, dry_run=dry_run)
    if not dry_run:
        _copy_pages(run)
    if touched:
        removed += _cards(run, dry_run=dry_run)
    for place in run.unfinished:
        if not place.startswith(f"{CARD}/") and _holds(run, place, gone):
            removed.append(f"{run.name}/{place}")
            if not dry_run:
                run.storage.delete(place)
    return removed + _human(run, gone, dry_run=dry_run)


def _work(run: Run, *, dry_run: bool) -> list[str]:
    """Scratch that a finished stage has left."""
    found = [f"{place}/work" for place in run.stages if run.is_finished(place) and run.below(f"{place}/work")]
    for place in found:
        if not dry_run:
            run.storage.delete(place)
    return [f"{run.name}/{place}" for place in found]


def _cards(run: Run, *, dry_run: bool) -> list[str]:
    """A data card shows images, prompts and people: it goes whole, and is made anew by the next run."""
    cards = [place for place in run.stages if place.startswith(f"{CARD}/")]
    pages = [_CARD_PAGE] if _CARD_PAGE in run.entries else []
    if not dry_run:
        for place in cards:
            run.storage.delete(f"{place}/{MANIFEST}")
            run.storage.delete(place)
        for page in pages:
            run.storage.delete(page)
        notes = run.notes
        if notes.pop(CARD, None):
            run.storage.write_bytes(NOTES, json.dumps(notes, indent=1, sort_keys=True).encode())
    return [f"{run.name}/{place}" for place in (*cards, *pages)]


def _holds(run: Run, place: str, gone: Gone) -> bool:
    """Whether a table of an unfinished stage has some of it, or cannot be read."""
    for name in run.below(place):
        if name.endswith(".parquet") and f"/{FORGETTING}/" not in name:
            try:
                with run.storage.open_input(name) as stream:
                    columns = [column for column in ID_COLUMNS if column in pq.read_schema(stream).names]
                if columns and pc.any(gone.rows(run.storage.read_table(name, columns))).as_py():
                    return True
            except (StorageError, pa.ArrowException):
                return True
    return False


def _human(run: Run, gone: Gone, *, dry_run: bool) -> list[str]:
    """Prompts that people were shown leave the key; figures of a person who is withdrawn go whole."""
    removed = []
    for name in [name for name in run.entries if name.startswith("human/")]:
        if name.endswith(f"/{KEY}"):
            key = Key.model_validate_json(run.storage.read_bytes(name))
            pairs = {of: pair for of, pair in key.pairs.items() if pair.drawn.prompt not in gone.prompts}
            if len(pairs) < len(key.pairs):
                removed.append(f"{run.name}/{name} ({len(key.pairs) - len(pairs)} pairs)")
                if not dry_run:
                    text = key.model_copy(update={"pairs": pairs}).model_dump_json(indent=1).encode()
                    run.storage.write_bytes(name, text + b"\n")
        elif name.endswith((f"/{RESULTS}", f"/{SUMMARY}")) and _tells_of_people(run, name, gone):
            removed.append(f"{run.name}/{name}")
            if not dry_run:
                run.storage.delete(name)
    return removed


def _tells_of_people(run: Run, name: str, gone: Gone) -> bool:
    results = f"{name.rpartition('/')[0]}/{RESULTS}"
    if not gone.withdrawn.annotators or results not in run.entries:
        return False
    told = json.loads(run.storage.read_bytes(results)) if run.storage.exists(results) else {}
    listed = told.get("annotators", [])
    return any(gone.withdrawn.has_annotator(str(one.get("annotator", ""))) for one in listed)
