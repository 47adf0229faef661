"""Which runs are kept, why, and which of their stages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pyarrow.fs import FileInfo

from prefopt.data.storage import Storage
from prefopt.errors import ConfigError
from prefopt.registry import Record
from prefopt.retention.runs import NOTES, Run

_NAMING = ("promote", "rollback", "propose")
"""Actions of registry records that name a champion or a proposal."""


@dataclass
class Kept:
    """A run that stays."""

    run: Run
    why: str
    trains: set[str] = field(default_factory=set)
    """Keys of train stages that the registry names, beside what run.json does."""

    @property
    def stages(self) -> set[str]:
        """Its stages that stay: those that run.json or the registry names, and all that these were made from."""
        notes = self.run.notes
        wanted = [f"{stage}/{key[:12]}" for stage, key in notes.items()]
        wanted += [f"train/{key[:12]}" for key in self.trains]
        found: set[str] = set()
        while wanted:
            place = wanted.pop()
            if place in found or place not in self.run.stages:
                continue
            found.add(place)
            if self.run.is_finished(place):
                parents = self.run.stage(place).manifest.parents
                wanted += [f"{stage}/{key[:12]}" for stage, key in parents.items()]
        return found


def is_young(info: FileInfo, grace: timedelta) -> bool:
    """Whether a file was written within the last `grace`."""
    return info.mtime is not None and datetime.now(UTC) - info.mtime < grace


def at_work(run: Run, grace: timedelta) -> list[str]:
    """Unfinished stages in which something was written lately."""
    return [place for place in run.unfinished if any(is_young(info, grace) for info in run.below(place).values())]


def finish_time(run: Run) -> datetime:
    """When the last stage of a run ended: the time of the newest file that the chain writes then, and never again."""
    ends = [info.mtime for name, info in run.entries.items() if _is_end(name)]
    ends = ends or [info.mtime for name, info in run.entries.items() if name == NOTES]
    return max((end for end in ends if end is not None), default=datetime.min.replace(tzinfo=UTC))


def _opened(name: str) -> Run | None:
    """A run that nobody named, if it is there."""
    try:
        return Run.open(name)
    except ConfigError:
        return None


def _is_end(name: str) -> bool:
    """logs/<stage>/<start of the key>.json."""
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == "logs" and len(parts[2]) == len("0123456789ab.json")


def kept_runs(
    named: Sequence[Run], others: Sequence[Run], history: Sequence[Record], *, keep: int | None, grace: timedelta
) -> list[Kept]:
    """The runs that stay: those that were not named, the newest `keep` (None: all), those of registry records, those at
    work, and those whose model a kept run's config names."""
    newest = sorted(named, key=lambda run: (finish_time(run), run.place), reverse=True)
    found = {run.place: Kept(run, "not named") for run in others}
    for run in newest[: len(newest) if keep is None else keep]:
        found[run.place] = Kept(run, "all are kept" if keep is None else f"among the newest {keep}")
    by_place = {run.place: run for run in (*others, *named)}
    for record in history:
        if record.action not in _NAMING or record.model is None:
            continue
        place = Storage(record.model.run).place()
        named_run = by_place.get(place) or _opened(record.model.run)
        if named_run is not None:
            by_place[place] = named_run
            why = f"record {record.number} of the registry ({record.action})"
            found.setdefault(place, Kept(named_run, why)).trains.add(record.model.train)
    for run in named:
        if at_work(run, grace):
            found.setdefault(run.place, Kept(run, "at work"))
    wanted = list(found)
    while wanted:
        kept = found[wanted.pop()]
        for place in kept.run.named_models() & (by_place.keys() - found.keys()):
            found[place] = Kept(by_place[place], f"{kept.run.name} is made from its model")
            wanted.append(place)
    return list(found.values())
