"""forget: erase what belongs to pairs, images and people from a store and from runs.

Order matters: what follows from an id (the pairs of an image, the votes of a person) is read from the tables of ingest
and from remembered rows. These are erased last, so that an interrupted call can be made again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn, add_to_store_list
from prefopt.registry import Record
from prefopt.retention.erase import CARD, erase_around, erase_from_store, erase_rewrites
from prefopt.retention.gone import Gone, Seen, find_gone
from prefopt.retention.models import VISITS, Model, forgotten_visits, trained_models
from prefopt.retention.parts import Tally
from prefopt.retention.rewrite import Rewrite, carry_out, plan_rewrite, resume
from prefopt.retention.runs import Run
from prefopt.retention.seen import forget_scan, image_files, scans, seen_by_run, seen_by_scans


@dataclass
class Forgotten:
    """What was erased, or would be."""

    pairs: int
    """That tables knew; votes, images and prompts likewise."""
    votes: int
    images: int
    prompts: int
    models: list[Model]
    sources: dict[str, list[int]]
    """Rows of source files that hold the data still; none for a file that is an image."""
    listed: str | None = None
    """The new list in the store; None where all of it was withdrawn already."""
    store: Tally = field(default_factory=Tally)
    scans: int = 0
    """Units of remembered rows, which the next ingest reads again."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows that went from a finished stage's tables, by its directory."""
    removed: list[str] = field(default_factory=list)
    """What went whole."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **{name: getattr(self, name) for name in ("pairs", "votes", "images", "prompts", "listed", "scans")},
            **{name: getattr(self, name) for name in ("rows", "removed", "sources")},
            "store": self.store.record(),
            "models": [model.record() for model in self.models],
        }


def forget(
    withdrawn: Withdrawn, store: Storage, runs: Sequence[Run], *, history: Sequence[Record] = (), dry_run: bool = False
) -> Forgotten:
    """Erase everything that belongs to these ids. The same call again finishes what was interrupted.

    Nothing may work with the store or the runs meanwhile. Raises InputError for files that are damaged.
    """
    runs = list(runs) if dry_run else [_resumed(run) for run in runs]
    seen = {run.place: seen_by_run(run) for run in runs}
    remembered = dict(seen_by_scans(store))
    places = [*(one for some in seen.values() for one in some), *remembered.values()]
    gone = find_gone(withdrawn, places)
    of_run = {run.place: find_gone(withdrawn, seen[run.place]) if seen[run.place] else gone for run in runs}
    done = _counted(gone, places, trained_models(runs, of_run, history))
    for run in runs:
        done.sources.update((file, []) for file in image_files(run, gone))
    entries: dict[str, Iterable[str]] = {entry: gone.source_files.get(entry, ()) for entry in withdrawn.entries}
    if not dry_run:
        done.listed = add_to_store_list(store, entries)
        _note_models(runs, of_run)
    done.store = erase_from_store(store, gone, runs, dry_run=dry_run)
    ingests: list[tuple[Run, list[Rewrite]]] = []
    for run in runs:
        mine = of_run[run.place]
        plans = [plan_rewrite(stage, mine) for stage in run.finished if stage.manifest.stage != CARD]
        plans = [made for made in plans if made.changes]
        last = [made for made in plans if made.stage.manifest.stage == "ingest"]
        others = [made for made in plans if made.stage.manifest.stage != "ingest"]
        done.rows |= erase_rewrites(run, others, dry_run=dry_run)
        touched = bool(plans) or (not seen[run.place] and mine.found)
        done.removed += erase_around(run, mine, touched=touched, dry_run=dry_run)
        ingests.append((run, last))
    done.scans = _forget_scans(store, remembered, gone, dry_run=dry_run)
    for run, rewrites in ingests:
        done.rows |= erase_rewrites(run, rewrites, dry_run=dry_run)
    for storage in (store, *(run.storage for run in runs)) if not dry_run else ():
        storage.sweep()
    return done


def _resumed(run: Run) -> Run:
    """Finish what an interrupted call began with a run's stages."""
    for place in run.stages:
        resume(run.storage.child(place))
    return Run(run.name, run.storage)


def _counted(gone: Gone, places: Sequence[Seen], models: list[Model]) -> Forgotten:
    pairs: set[str] = set()
    images: set[str] = set()
    for seen in places:
        hit = seen.pairs.filter(pc.is_in(seen.pairs["pair_id"], pa.array(sorted(gone.pairs), pa.string())))
        pairs |= set(hit["pair_id"].to_pylist())
        images |= {image for side in ("image_0", "image_1") for image in hit[side].to_pylist()}
    return Forgotten(
        pairs=len(pairs),
        votes=len(gone.votes),
        images=len(images & gone.images),
        prompts=len(gone.prompts),
        models=models,
        sources={file: sorted(rows) for file, rows in sorted(gone.source_rows.items())},
    )


def _note_models(runs: Sequence[Run], of_run: Mapping[str, Gone]) -> None:
    """Say in each train stage's manifest how many of its visits are forgotten: their rows are about to go."""
    for run in runs:
        for train in run.of("train"):
            visits = forgotten_visits(run, train, of_run[run.place])
            if visits and train.manifest.summary.get(VISITS) != visits:
                carry_out(Rewrite(train, noted={VISITS: visits}))


def _forget_scans(store: Storage, remembered: Mapping[str, Seen], gone: Gone, *, dry_run: bool) -> int:
    """Remembered rows of which some are gone, and those that nobody can use, are to be read again."""
    found = [scan for scan, seen in remembered.items() if pc.any(gone.rows(seen.votes)).as_py()]
    found += [scan for scan, whole in scans(store).items() if not whole]
    for scan in found:
        if not dry_run:
            forget_scan(store, scan)
    return len(found)
