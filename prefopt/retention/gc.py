"""gc: remove what no kept run reaches.

Runs go first, then the store. Whatever was written within the grace period stays: somebody may be about to use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo

from prefopt.data.keys import GENERATED, KINDS, REWARDS
from prefopt.data.storage import Storage
from prefopt.registry import Record
from prefopt.retention.keeping import Kept, at_work, is_young, kept_runs
from prefopt.retention.parts import Removed, Tally, families, remove_empty, remove_rows
from prefopt.retention.reach import Reach, reach_of, unscored
from prefopt.retention.runs import NOTES, Run, other_users
from prefopt.retention.seen import forget_scan, scanned_file, scans

_AT_TOP = ("report.html", "report.md", "metrics.json", "data-card.html")
_WORLDS, _COMPLETE = "world", "complete.json"


@dataclass
class Collected:
    """What was removed, or would be."""

    kept: dict[str, str] = field(default_factory=dict)
    """Runs, and why."""
    runs: list[str] = field(default_factory=list)
    """Runs that went."""
    tally: Tally = field(default_factory=Tally)
    left_alone: str = ""
    """Why the store was not touched, where it was not."""

    @property
    def bytes(self) -> int:
        """All that is freed."""
        return sum(removed.bytes for removed in self.tally.kinds.values())

    def record(self) -> dict[str, Any]:
        """As JSON."""
        told = {"kept": self.kept, "removed_runs": self.runs, "left_alone": self.left_alone, "bytes": self.bytes}
        return {**told, "removed": self.tally.record()}


def gc(
    named: Sequence[Run],
    store: Storage,
    *,
    keep: int | None,
    history: Sequence[Record] = (),
    grace: timedelta = timedelta(days=1),
    dry_run: bool = False,
) -> Collected:
    """Keep the newest `keep` of the named runs (None: all of them), and what they and all other kept runs need.

    Raises InputError for manifests, notes and tables of kept runs that are damaged: then nothing is removed.
    """
    others = other_users(store, named)
    kept = kept_runs(named, others.runs, history, keep=keep, grace=grace)
    working = {one.run.place for one in kept if at_work(one.run, grace)}
    reach = reach_of(kept, store, working)
    done = Collected(kept={one.run.name: one.why for one in kept})
    staying = {one.run.place for one in kept}
    mine = {run.place for run in named}
    stale = [(one.run, place) for one in kept if one.run.place in mine for place in _stale(one, grace)]
    for run, place in stale:
        kind = "work" if place.endswith("/work") else "stages"
        _remove(run.storage, place, run.below(place), kind, done.tally, dry_run=dry_run)
    for run in named:
        if run.place not in staying:
            done.runs.append(run.name)
            _remove_run(run, done.tally, dry_run=dry_run)
    if others.elsewhere:
        done.left_alone = f"other machines use it too: {', '.join(others.elsewhere)}"
    elif reach.unknown:
        done.left_alone = f"it cannot be told yet what {', '.join(reach.unknown)} needs"
    else:
        _sweep_rows(store, reach, grace, done.tally, whole=bool(working), dry_run=dry_run)
        _sweep_scans(store, reach, grace, done.tally, dry_run=dry_run)
        _sweep_worlds(store, reach, grace, done.tally, dry_run=dry_run)
        for note in others.gone if not dry_run else ():
            store.delete(note)
    return done


def _stale(kept: Kept, grace: timedelta) -> list[str]:
    """Directories of a kept run that nothing names, and scratch of finished stages."""
    stages, working = kept.stages, set(at_work(kept.run, grace))
    found = [place for place in kept.run.stages if place not in stages | working]
    left = [place for place in kept.run.stages if place in stages and kept.run.is_finished(place)]
    return found + [f"{place}/work" for place in left if kept.run.below(f"{place}/work")]


def _remove(
    storage: Storage, place: str, files: Mapping[str, FileInfo], kind: str, tally: Tally, *, dry_run: bool
) -> None:
    tally.add(kind, Removed(0, sum(info.size for info in files.values()), len(files)))
    if not dry_run:
        storage.delete(place)


def _remove_run(run: Run, tally: Tally, *, dry_run: bool) -> None:
    """All that the chain has written there, the notes last: until then it is a run. People's votes stay."""
    for place in (*run.stages, "logs"):
        _remove(run.storage, place, run.below(place), "runs", tally, dry_run=dry_run)
    for name in (*_AT_TOP, NOTES):
        if name in run.entries:
            _remove(run.storage, name, {name: run.entries[name]}, "runs", tally, dry_run=dry_run)


def _sweep_rows(store: Storage, reach: Reach, grace: timedelta, tally: Tally, *, whole: bool, dry_run: bool) -> None:
    for kind in KINDS:
        unreached = reach.doomed(kind)
        for family, parts in families(store, kind):
            unused = kind == GENERATED and family not in reach.drawn
            unused = unused or (kind == REWARDS and unscored(reach, store, family))
            doomed = _every if unused else unreached
            for part, info in parts.items():
                if not is_young(info, grace):
                    tally.add(f"store {kind}", remove_rows(store, part, info, doomed, dry_run=dry_run, whole=whole))
            if not dry_run:
                remove_empty(store, family)


def _every(rows: pa.Table) -> pa.Array:
    return pa.array([True] * rows.num_rows, pa.bool_())


def _sweep_scans(store: Storage, reach: Reach, grace: timedelta, tally: Tally, *, dry_run: bool) -> None:
    """Remembered rows of source files that no kept run has read."""
    for scan, whole in scans(store).items():
        files = store.entries(scan)
        if any(is_young(info, grace) for info in files.values()):
            continue
        if not whole or scanned_file(store, scan) not in reach.sources:
            tally.add("store scanned", Removed(0, sum(info.size for info in files.values()), len(files)))
            if not dry_run:
                forget_scan(store, scan)


def _sweep_worlds(store: Storage, reach: Reach, grace: timedelta, tally: Tally, *, dry_run: bool) -> None:
    """Data sets of the embedded world that no kept run has read."""
    from prefopt.data.manifest import describe_file

    files = store.entries(_WORLDS)
    for place in sorted({"/".join(name.split("/")[:2]) for name in files}):
        mine = {name: info for name, info in files.items() if name.startswith(f"{place}/")}
        if any(is_young(info, grace) for info in mine.values()):
            continue
        if not any(describe_file(store, name).sha256 in reach.sources for name in mine if name.endswith(".parquet")):
            if not dry_run:
                store.delete(f"{place}/{_COMPLETE}")
            _remove(store, place, mine, "store world", tally, dry_run=dry_run)
