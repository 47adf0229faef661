"""A finished stage without some of its rows, under the same key.

New files are laid beside the old ones, then a journal says what is to be done, then they change places. A crash before
the journal leaves the old stage, one after it a stage that `resume` finishes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefopt.data.manifest import MANIFEST, FileEntry, Manifest, Rows, commit_manifest, describe_file
from prefopt.data.schema import QUARANTINE
from prefopt.data.storage import Storage
from prefopt.retention.gone import ID_COLUMNS, Gone
from prefopt.retention.runs import FORGETTING, FinishedStage

QUARANTINE_FILE = "quarantine.parquet"
_JOURNAL = "journal.json"
_UNIT = {"ingest": "votes-", "inject": "labels-", "score": "scores-", "evaluate": "images-", "compare": "images-"}
"""The tables whose rows a stage's manifest counts; the visits of train stay counted, since the model has seen them."""
_TOLD = (
    "This report showed prompts that were to be forgotten, and was removed. Its figures are in metrics.json. A new one"
    " is made by: prefopt evaluate."
)
PAGES = {
    "report.html": f"<!doctype html><meta charset='utf-8'><title>Report</title><p>{_TOLD}</p>\n".encode(),
    "report.md": f"# Report\n\n{_TOLD}\n".encode(),
}
"""What takes the place of pages that showed prompts."""


@dataclass
class Rewrite:
    """What is to change in one stage."""

    stage: FinishedStage
    tables: dict[str, pa.Table] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that go, by table."""
    noted: dict[str, int] = field(default_factory=dict)
    """For the manifest's summary."""

    @property
    def rows(self) -> int:
        """That go, from all tables."""
        return sum(self.dropped.values())

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.tables or self.pages or self.noted)


def plan_rewrite(stage: FinishedStage, gone: Gone) -> Rewrite:
    """The stage without the rows that are `gone`; nothing is written."""
    made = Rewrite(stage)
    for entry in stage.manifest.files:
        if entry.path.endswith(".parquet") and entry.path != QUARANTINE_FILE:
            _without_rows(made, entry.path, gone)
    if stage.manifest.stage == "ingest" and made.tables:
        _set_aside(made, gone)
    if any(path.startswith("prompts-") for path in made.tables):
        listed = {entry.path for entry in stage.manifest.files}
        made.pages = {name: page for name, page in PAGES.items() if name in listed}
    return made


def _without_rows(made: Rewrite, path: str, gone: Gone) -> None:
    storage = made.stage.storage
    with storage.open_input(path) as stream:
        names = [name for name in ID_COLUMNS if name in pq.read_schema(stream).names]
    if not names:
        return
    hit = gone.rows(storage.read_table(path, names))
    if pc.any(hit).as_py():
        made.tables[path] = storage.read_table(path).filter(pc.invert(hit))
        made.dropped[path] = pc.sum(hit).as_py()


def _set_aside(made: Rewrite, gone: Gone) -> None:
    """Votes that leave ingest's tables are counted in its quarantine, by ids alone."""
    votes: list[dict[str, Any]] = []
    columns = ["pair_id", "source_file", "source_row"]
    pairs = made.stage.table("pairs-", columns)
    assert pairs is not None
    wanted = made.stage.table("votes-", ["vote_id", "pair_id", "annotator"])
    assert wanted is not None
    lost = wanted.filter(gone.rows(wanted))
    mine = pairs.filter(pc.is_in(pairs["pair_id"], lost["pair_id"].combine_chunks()))
    places = {row["pair_id"]: row for row in mine.to_pylist()}
    for vote in lost.to_pylist():
        place, named = places[vote["pair_id"]], gone.withdrawn.has_annotator(vote["annotator"])
        told = "the annotator of this vote on pair {} is withdrawn" if named else "pair {} is withdrawn"
        votes.append(
            {
                "source_file": place["source_file"],
                "source_row": place["source_row"],
                "votes": 1,
                "reason": "withdrawn",
                "detail": told.format(vote["pair_id"]),
            }
        )
    before = made.stage.storage.read_table(QUARANTINE_FILE)
    made.tables[QUARANTINE_FILE] = pa.concat_tables([before, pa.Table.from_pylist(votes, schema=QUARANTINE)])


def carry_out(made: Rewrite) -> None:
    """Write the new files, and let them take the place of the old ones."""
    stage, beside = made.stage, made.stage.storage.child(FORGETTING)
    beside.delete("")
    for path, table in made.tables.items():
        beside.write_table(path, table)
    for path, page in made.pages.items():
        beside.write_bytes(path, page)
    changed = {path: describe_file(beside, path) for path in (*made.tables, *made.pages)}
    journal = {
        "before": _sha256(stage.storage.read_bytes(MANIFEST)),
        "manifest": _new_manifest(made, changed).model_dump(mode="json", by_alias=True),
        "files": list(changed),
    }
    beside.write_bytes(_JOURNAL, json.dumps(journal).encode())
    resume(stage.storage)


def resume(stage: Storage) -> bool:
    """Finish what an interrupted `carry_out` began, or take it back; whether a stage was changed."""
    beside = stage.child(FORGETTING)
    if not beside.exists(""):
        return False
    changed = False
    if beside.exists(_JOURNAL) and stage.exists(MANIFEST):
        journal = json.loads(beside.read_bytes(_JOURNAL))
        manifest = Manifest.model_validate(journal["manifest"])
        if _sha256(stage.read_bytes(MANIFEST)) == journal["before"]:
            _put(stage, beside, journal["files"])
            commit_manifest(stage, manifest)
            changed = True
    beside.delete(_JOURNAL)
    beside.delete("")
    return changed


def _put(stage: Storage, beside: Storage, files: Sequence[str]) -> None:
    for path in files:
        stage.write_bytes(path, beside.read_bytes(path))


def _new_manifest(made: Rewrite, changed: Mapping[str, FileEntry]) -> Manifest:
    before = made.stage.manifest
    summary = {**before.summary, **made.noted}
    counted = _UNIT.get(before.stage)
    out = sum(count for path, count in made.dropped.items() if counted and path.startswith(counted))
    if before.stage == "ingest":
        summary = {**summary, "quarantined_withdrawn": _number(summary.get("quarantined_withdrawn")) + out}
        for kind in ("pairs", "images"):
            lost = sum(count for path, count in made.dropped.items() if path.startswith(f"{kind}-"))
            summary[kind] = _number(summary.get(kind)) - lost
    if made.rows:
        summary["forgotten_rows"] = _number(summary.get("forgotten_rows")) + made.rows
    rows = Rows(in_=before.rows.in_, out=before.rows.out - out, quarantined=before.rows.quarantined + out)
    files = [changed.get(entry.path, entry) for entry in before.files]
    return before.model_copy(update={"files": files, "rows": rows, "summary": summary})


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
