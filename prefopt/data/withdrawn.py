"""What may no longer be used: pairs and images by their ids, and annotators."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.ids import canonical_hash, digest
from prefopt.data.storage import Storage
from prefopt.errors import InputError

LISTS = "withdrawn"
"""The directory of a store's own lists: one file for each `prefopt forget` that added something."""
MAX_BYTES = 64_000_000
COLUMNS = ("id", "files")
"""Of a store's list: what is withdrawn, and the sha256 of the source files in which rows of it had been read."""
_NAMED, _HASHED = "annotator:", "annotator#"
_ID = re.compile("[0-9a-f]{32}")
_SHA256 = re.compile("[0-9a-f]{64}")


def annotator_id(name: str) -> str:
    """What stands for an annotator's name where the name itself must not be kept."""
    return digest("annotator", name)


@dataclass(frozen=True)
class Withdrawn:
    """A set of what is withdrawn."""

    ids: frozenset[str] = frozenset()
    """Of pairs and of images: a withdrawn image takes all of its pairs with it."""
    annotators: frozenset[str] = frozenset()
    """As `annotator_id` gives them."""

    @classmethod
    def of(cls, entries: Iterable[str]) -> "Withdrawn":
        """From checked entries."""
        found = list(entries)
        annotators = {entry.removeprefix(_HASHED) for entry in found if entry.startswith(_HASHED)}
        return cls(frozenset(entry for entry in found if _ID.fullmatch(entry)), frozenset(annotators))

    def __or__(self, other: "Withdrawn") -> "Withdrawn":
        return Withdrawn(self.ids | other.ids, self.annotators | other.annotators)

    def __bool__(self) -> bool:
        return bool(self.ids or self.annotators)

    @property
    def entries(self) -> list[str]:
        """In order, without an annotator's name."""
        return [*sorted(self.ids), *sorted(f"{_HASHED}{one}" for one in self.annotators)]

    @property
    def key(self) -> str | None:
        """What a stage's key takes of it; None for nothing."""
        return canonical_hash(self.entries) if self else None

    def hits(self, rows: pa.Table) -> pa.Array:
        """Which rows are withdrawn, by those of the columns pair_id, image_id, image_0, image_1 and annotator that
        there are."""
        found = pa.array([False] * rows.num_rows, pa.bool_())
        ids = pa.array(sorted(self.ids), pa.string())
        for name in ("pair_id", "image_id", "image_0", "image_1"):
            if name in rows.column_names and self.ids:
                found = pc.or_(found, pc.is_in(rows[name], ids).combine_chunks())
        if "annotator" in rows.column_names and self.annotators:
            names = [name for name in pc.unique(rows["annotator"]).to_pylist() if self.has_annotator(name)]
            found = pc.or_(found, pc.is_in(rows["annotator"], pa.array(names, pa.string())).combine_chunks())
        return found

    def has_annotator(self, name: str) -> bool:
        """Whether all votes of this annotator are withdrawn; those of unnamed ones never are."""
        return bool(name) and annotator_id(name) in self.annotators

    def why(self, row: Mapping[str, Any]) -> str | None:
        """Why a vote is withdrawn, without a name or a prompt; None if it is not. `row`: pair_id, image_0, image_1, and
        the annotator_id, which may be empty."""
        pair = row["pair_id"]
        if pair in self.ids:
            return f"pair {pair} is withdrawn"
        for image in (row["image_0"], row["image_1"]):
            if image in self.ids:
                return f"image {image} of pair {pair} is withdrawn"
        return (
            f"the annotator of this vote on pair {pair} is withdrawn"
            if row["annotator_id"] in self.annotators
            else None
        )


NOTHING = Withdrawn()


def checked_entry(text: str, where: str) -> str:
    """An entry as it is kept: an id, or the `annotator_id` of a name. InputError, naming the place, otherwise."""
    entry = text.strip()
    if entry.startswith(_NAMED) and (name := entry.removeprefix(_NAMED).strip()):
        return f"{_HASHED}{annotator_id(name)}"
    known = entry.removeprefix(_HASHED).lower()
    if _ID.fullmatch(known):
        return f"{_HASHED}{known}" if entry.startswith(_HASHED) else known
    raise InputError(
        f"{where}: {entry[:100]!r} is no id. Give the id of a pair or an image as the tables of ingest name it (32 hex"
        f" digits), or {_NAMED}NAME."
    )


def read_withdrawn(path: str) -> Withdrawn:
    """A file (.txt or .csv, local or s3://) with an entry a line, in a .csv in the first column; empty lines and those
    that begin with # do not count.

    Raises InputError, with the line's number, for a file that is not there, is too large or is malformed.
    """
    directory, slash, name = path.rpartition("/")
    text = _text(Storage(directory or slash or "."), name, path)
    return Withdrawn.of(checked_entry(entry, f"{path} line {line}") for line, entry in _entries(text, path))


def _entries(text: str, path: str) -> Iterator[tuple[int, str]]:
    for line, cells in _lines(text, path):
        if cells and cells[0].strip() and not cells[0].lstrip().startswith("#"):
            if line == 1 and path.endswith(".csv") and cells[0].strip().lower() == COLUMNS[0]:
                continue
            yield line, cells[0]


def _lines(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    if not path.endswith(".csv"):
        yield from ((number, [line]) for number, line in enumerate(text.splitlines(), start=1))
        return
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}. Mend the file.") from None


def _text(storage: Storage, name: str, path: str) -> str:
    size = storage.size(name)
    if size is None:
        raise InputError(f"There is no file {path}. Check ingest.withdrawn, or whoever names the list.")
    if size > MAX_BYTES:
        raise InputError(f"{path} has {size} bytes, and a list of what is withdrawn may have {MAX_BYTES}: split it up.")
    data = storage.read_bytes(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path} line {line}: this is not UTF-8 text. Save the file as UTF-8.") from None


@dataclass(frozen=True)
class StoreList:
    """What `prefopt forget` has withdrawn from a store: each entry with the source files that it was found in."""

    files: Mapping[str, frozenset[str]]
    """sha256 of source files, by entry."""

    @property
    def all(self) -> Withdrawn:
        """Every entry: what ingest leaves out."""
        return Withdrawn.of(self.files)

    def touching(self, sources: Iterable[str]) -> Withdrawn:
        """The entries that had rows in one of these source files (by sha256): what ingest's key takes."""
        wanted = set(sources)
        return Withdrawn.of(entry for entry, files in self.files.items() if files & wanted)


def read_store_list(store: Storage) -> StoreList:
    """All lists of a store. InputError if one is damaged."""
    found: dict[str, frozenset[str]] = {}
    for name in store.files(LISTS):
        where = f"{store.uri}/{name}"
        for line, cells in _lines(_text(store, name, where), name):
            if line == 1:
                continue
            if len(cells) != len(COLUMNS) or not all(map(_SHA256.fullmatch, cells[1].split())):
                raise InputError(f"{where} line {line} is damaged: put the file back from a backup.")
            entry = checked_entry(cells[0], f"{where} line {line}")
            found[entry] = found.get(entry, frozenset()) | frozenset(cells[1].split())
    return StoreList(found)


def add_to_store_list(store: Storage, added: Mapping[str, Iterable[str]]) -> str | None:
    """Add entries with the source files that they were found in; the new list's path, None if all was known.

    Lists are only ever added, each under a name of its own: of two calls at once none loses anything.
    """
    known = read_store_list(store).files
    new = {
        entry: sorted(set(files) - known.get(entry, frozenset()))
        for entry, files in sorted(added.items())
        if entry not in known or set(files) - known[entry]
    }
    if not new:
        return None
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([entry, " ".join(files)] for entry, files in new.items())
    name = f"{LISTS}/{digest(stream.getvalue())}.csv"
    store.write_bytes(name, stream.getvalue().encode())
    return name
