"""Reading pairs and votes where runs and the store hold them."""

import json
from collections import defaultdict
from collections.abc import Iterator

from prefopt.data.storage import Storage
from prefopt.distributed.scan import RECEIPT, SCANS
from prefopt.retention.gone import Gone, Seen
from prefopt.retention.runs import FinishedStage, Run

_PAIR = ["pair_id", "prompt", "image_0", "image_1", "source_file", "source_row"]
_VOTE = ["vote_id", "pair_id", "annotator"]


def seen_by_run(run: Run) -> list[Seen]:
    """Of every finished ingest of a run."""
    return [seen_by_ingest(stage) for stage in run.of("ingest")]


def seen_by_ingest(stage: FinishedStage) -> Seen:
    """Of one finished ingest."""
    files: dict[str, set[str]] = defaultdict(set)
    sources = stage.table("sources", ["file", "sha256"])
    for row in sources.to_pylist() if sources is not None else ():
        files[row["file"]].add(row["sha256"])
    pairs, votes = stage.table("pairs-", _PAIR), stage.table("votes-", _VOTE)
    assert pairs is not None
    assert votes is not None
    return Seen(pairs, votes, {name: frozenset(found) for name, found in files.items()})


def image_files(run: Run, gone: Gone) -> list[str]:
    """Files of sources that are images which are gone."""
    found: set[str] = set()
    for stage in run.of("ingest"):
        images = stage.table("images-", ["image_id", "file", "row"])
        for row in images.filter(gone.rows(images)).to_pylist() if images is not None else ():
            if row["row"] < 0:
                found.add(row["file"])
    return sorted(found)


def scans(store: Storage) -> dict[str, bool]:
    """Directories of remembered rows, and whether each is whole."""
    found: dict[str, bool] = {}
    for name in store.files(SCANS):
        parts = name.split("/")
        if len(parts) == 3:
            place = "/".join(parts[:2])
            found[place] = found.get(place, False) or parts[2] == RECEIPT
    return found


def scanned_file(store: Storage, scan: str) -> str | None:
    """sha256 of the source file whose rows are remembered; None where that is not told."""
    told = json.loads(store.read_bytes(f"{scan}/{RECEIPT}")).get("sha256")
    return str(told) if told else None


def seen_by_scans(store: Storage) -> Iterator[tuple[str, Seen]]:
    """Of every remembered unit of rows, with its directory."""
    for scan, whole in scans(store).items():
        if whole and store.exists(f"{scan}/votes.parquet"):
            votes = store.read_table(f"{scan}/votes.parquet", list(dict.fromkeys([*_PAIR, *_VOTE])))
            sha256 = scanned_file(store, scan)
            told = json.loads(store.read_bytes(f"{scan}/{RECEIPT}")).get("file", "")
            voted = votes.select([*_VOTE, "source_file", "source_row"])
            yield scan, Seen(votes.select(_PAIR), voted, {told: frozenset({sha256} if sha256 else ())})


def forget_scan(store: Storage, scan: str) -> None:
    """Let rows be read again: the receipt goes first, so that no half of them is ever used."""
    store.delete(f"{scan}/{RECEIPT}")
    store.delete(scan)
