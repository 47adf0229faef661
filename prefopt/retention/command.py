"""What `prefopt gc` and `prefopt forget` do: options checked before any work, and what is said afterwards."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn, checked_entry, read_withdrawn
from prefopt.errors import ConfigError
from prefopt.registry import Record, Registry
from prefopt.retention.forget import Forgotten
from prefopt.retention.forget import forget as forget_ids
from prefopt.retention.gc import Collected
from prefopt.retention.gc import gc as collect
from prefopt.retention.runs import NOTES, open_runs, other_users

_SHOWN = 5
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
Answer = tuple[dict[str, Any], list[str]]
"""The record to print as JSON, and lines to print without."""


def gc(runs: Sequence[str], store: str, *, keep: str, registry: str | None, hours: float, dry_run: bool) -> Answer:
    """Raises ConfigError for directories that are no runs or no store, or a `keep` that is no number; InputError for
    damaged files: then nothing is removed."""
    count = _count(keep)
    named = open_runs(runs)
    done = collect(
        named,
        _store(store),
        keep=count,
        history=_history(registry),
        grace=timedelta(hours=hours),
        dry_run=dry_run,
    )
    return {"dry_run": dry_run, **done.record()}, _gc_lines(done, dry_run)


def forget(
    ids: Sequence[str], file: str | None, store: str, runs: Sequence[str], *, registry: str | None, dry_run: bool
) -> Answer:
    """Raises ConfigError for directories that are no runs or no store, or without an id; InputError for ids that are
    none, and for damaged files."""
    withdrawn = Withdrawn.of(checked_entry(entry, f"argument {place}") for place, entry in enumerate(ids, start=1))
    withdrawn = withdrawn | (read_withdrawn(file) if file else Withdrawn())
    if not withdrawn:
        raise ConfigError("forget needs ids of pairs or images, annotator:NAME, or --file FILE with some.")
    place, named = _store(store), open_runs(runs)
    others = other_users(place, named)
    done = forget_ids(withdrawn, place, [*named, *others.runs], history=_history(registry), dry_run=dry_run)
    record = {"dry_run": dry_run, **done.record(), "elsewhere": others.elsewhere}
    return record, _forget_lines(done, others.elsewhere, dry_run)


def _count(keep: str) -> int | None:
    if keep == "all":
        return None
    if not (keep.isascii() and keep.isdigit()):
        raise ConfigError(f"--keep {keep}: give how many of the newest runs are kept, or all.")
    return int(keep)


def _store(uri: str) -> Storage:
    """ConfigError unless it can be a store: there, and no run."""
    store = Storage(uri)
    if store.exists(NOTES):
        raise ConfigError(f"--store {uri} is a run directory, as it holds {NOTES}: give the config's `store`.")
    if not store.files():
        raise ConfigError(f"--store {uri} is empty or not there: give the config's `store` (runs/store by default).")
    return store


def _history(registry: str | None) -> list[Record]:
    if registry is None:
        return []
    found = Registry(registry).history()
    if not found:
        raise ConfigError(f"--registry {registry} holds no record: give the registry that names your champions.")
    return found


def _gc_lines(done: Collected, dry_run: bool) -> list[str]:
    lines = [f"Kept: {run} ({why})." for run, why in sorted(done.kept.items())]
    verb = "Would go" if dry_run else "Gone"
    lines += [f"{verb}: {run}, the whole run." for run in done.runs]
    for kind, removed in sorted(done.tally.kinds.items()):
        rows = f"{removed.rows} rows, " if removed.rows else ""
        lines.append(f"{verb}: {kind}: {rows}{removed.files} files, {_size(removed.bytes)}.")
    if done.left_alone:
        lines.append(f"The store was left alone: {done.left_alone}.")
    return [*lines, f"{'To be freed' if dry_run else 'Freed'}: {_size(done.bytes)}."]


def _forget_lines(done: Forgotten, elsewhere: Sequence[str], dry_run: bool) -> list[str]:
    verb = "Would be erased" if dry_run else "Erased"
    lines = [f"{verb}: {done.pairs} pairs, {done.votes} votes, {done.images} images, {done.prompts} prompts."]
    for kind, removed in sorted(done.store.kinds.items()):
        lines.append(f"{verb}: {removed.rows} rows of the store's {kind}, {_size(removed.bytes)}.")
    if done.scans:
        lines.append(f"{verb}: {done.scans} units of remembered rows; the next ingest reads them again.")
    lines += [f"{verb}: {rows} rows of {place}." for place, rows in sorted(done.rows.items()) if rows]
    lines += [f"{verb}: {place}." for place in done.removed]
    if done.listed:
        lines.append(f"Every later ingest of this store leaves them out: {done.listed}.")
    for model in done.models:
        lines.append(_model_line(model.run, model.train, model.visits, model.after, model.records))
    if done.models:
        lines.append("A model cannot be made to forget by a delete: train again without the data, and withdraw it.")
    for file, rows in done.sources.items():
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        where = f"rows {', '.join(map(str, rows[:_SHOWN]))}{more}" if rows else "it is one of the images"
        lines.append(f"The source {file} holds the data still: {where}.")
    if elsewhere:
        lines.append(f"Not looked at, since they lie on other machines: {', '.join(elsewhere)}.")
    return lines


def _model_line(run: str, train: str, visits: int | None, after: Sequence[str], records: Sequence[str]) -> str:
    seen = f"was trained on it ({visits} visits)" if visits else f"was made from a model of {', '.join(after)}"
    seen = seen if visits or after else "may have been trained on it: its plan is not there any more"
    named = f"; records of the registry: {', '.join(records)}" if records else ""
    return f"The model of {run} (train {train[:12]}) {seen}{named}."


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
