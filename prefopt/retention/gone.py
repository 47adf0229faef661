"""What follows from ids that are to be forgotten: pairs, votes, images, prompts, and rows of any table about them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.data.ids import prompt_id
from prefopt.data.withdrawn import Withdrawn, annotator_id

_SIDES = ("image_0", "image_1")
Scored = tuple[str, str]
"""An image, and the prompt that it was made for."""


@dataclass(frozen=True)
class Seen:
    """Pairs and votes of one place: the output of ingest, or rows that the store remembers."""

    pairs: pa.Table
    """pair_id, prompt, image_0, image_1, source_file, source_row; a pair may have several rows."""
    votes: pa.Table
    """vote_id, pair_id, annotator; and source_file, source_row where every vote tells its own."""
    files: Mapping[str, frozenset[str]]
    """sha256 of the source files by name."""


@dataclass
class Gone:
    """What is to be erased."""

    withdrawn: Withdrawn
    pairs: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    """Those named, and those that no remaining pair shows."""
    prompts: set[str] = field(default_factory=set)
    """Texts that no remaining pair has."""
    scored: set[Scored] = field(default_factory=set)
    """Images with the prompt of a pair that goes, where no remaining pair has both."""
    source_rows: dict[str, set[int]] = field(default_factory=dict)
    """Rows of source files that hold the data still."""
    source_files: dict[str, set[str]] = field(default_factory=dict)
    """sha256 of the files in which rows were found, by entry of the list of what is withdrawn."""

    @property
    def found(self) -> bool:
        """Whether there is anything of it, beyond the ids that were given."""
        return bool(self.votes or self.pairs - self.withdrawn.ids)

    @cached_property
    def prompt_ids(self) -> set[str]:
        """The prompts by id."""
        return {prompt_id(prompt) for prompt in self.prompts}

    @cached_property
    def _scored_ids(self) -> set[Scored]:
        return {(image, prompt_id(prompt)) for image, prompt in self.scored}

    def rows(self, table: pa.Table) -> pa.Array:
        """Which rows of a table are about it, by the columns that the tables of runs and stores have."""
        found = self.withdrawn.hits(table)
        for names, ids in (
            (("pair_id",), self.pairs),
            (("vote_id",), self.votes),
            (("image_id", *_SIDES), self.images),
            (("prompt_id",), self.prompt_ids),
            (("prompt",), self.prompts),
        ):
            wanted = pa.array(sorted(ids), pa.string())
            for name in names:
                if name in table.column_names and pa.types.is_string(table.schema.field(name).type):
                    found = pc.or_(found, pc.is_in(table[name], wanted).combine_chunks())
        if self.scored and {"image_id", "prompt_id"} <= set(table.column_names):
            rows = zip(table["image_id"].to_pylist(), table["prompt_id"].to_pylist(), strict=True)
            found = pc.or_(found, pa.array([row in self._scored_ids for row in rows], pa.bool_()))
        return found


ID_COLUMNS = ("pair_id", "vote_id", "image_id", *_SIDES, "prompt_id", "prompt", "annotator")
"""Columns that `Gone.rows` looks at."""


def find_gone(withdrawn: Withdrawn, places: Iterable[Seen]) -> Gone:
    """What follows from `withdrawn` where only these places hold data.

    A pair goes with its id, with an image of it, or with the last of its votes; an image, or a prompt, with the last
    pair that has it.
    """
    places = list(places)
    gone = Gone(withdrawn, pairs=set(withdrawn.ids), images=set(withdrawn.ids))
    voted_on: set[str] = set()
    for seen in places:
        hit = pc.unique(seen.pairs["pair_id"].filter(withdrawn.hits(seen.pairs)))
        gone.pairs |= set(hit.to_pylist())
    for seen in places:
        lost = pc.or_(withdrawn.hits(seen.votes), _within(seen.votes["pair_id"], gone.pairs))
        gone.votes |= set(seen.votes["vote_id"].filter(lost).to_pylist())
        voted_on |= set(seen.votes["pair_id"].filter(lost).to_pylist())
    for seen in places:
        kept = seen.votes["pair_id"].filter(pc.invert(_within(seen.votes["vote_id"], gone.votes)))
        voted_on -= set(pc.unique(kept).to_pylist())
    gone.pairs |= voted_on
    _add_contents(gone, places)
    for seen in places:
        _add_sources(gone, seen)
    return gone


def _within(column: pa.ChunkedArray, ids: set[str]) -> pa.Array:
    return pc.is_in(column, pa.array(sorted(ids), pa.string())).combine_chunks()


def _add_contents(gone: Gone, places: list[Seen]) -> None:
    """Images and prompts of pairs that go, less those of pairs that remain."""
    going: set[Scored] = set()
    for seen in places:
        going |= set(_scored(seen.pairs.filter(_within(seen.pairs["pair_id"], gone.pairs))))
    images, prompts = {image for image, _ in going}, {prompt for _, prompt in going}
    gone.scored = set(going)
    named = set(gone.images)
    for seen in places:
        table = seen.pairs
        concerned = _within(table["prompt"], prompts)
        for side in _SIDES:
            concerned = pc.or_(concerned, _within(table[side], images))
        left = pc.and_(concerned, pc.invert(_within(table["pair_id"], gone.pairs)))
        remaining = set(_scored(table.filter(left)))
        gone.scored -= remaining
        images -= {image for image, _ in remaining}
        prompts -= {prompt for _, prompt in remaining}
    gone.images, gone.prompts = images | named, prompts


def _scored(pairs: pa.Table) -> Iterable[Scored]:
    for row in pairs.select(["prompt", *_SIDES]).to_pylist():
        yield from ((row[side], row["prompt"]) for side in _SIDES)


def _add_sources(gone: Gone, seen: Seen) -> None:
    """Where in the sources the data lie still."""
    ids, annotators = gone.withdrawn.ids, gone.withdrawn.annotators
    hit = seen.pairs.filter(_within(seen.pairs["pair_id"], gone.pairs))
    for row in hit.to_pylist():
        gone.source_rows.setdefault(row["source_file"], set()).add(row["source_row"])
        for entry in {row["pair_id"], *(row[side] for side in _SIDES)} & ids:
            gone.source_files.setdefault(entry, set()).update(seen.files.get(row["source_file"], ()))
    if not annotators:
        return
    named = seen.votes.filter(gone.withdrawn.hits(seen.votes.select(["annotator"])))
    pairs = seen.pairs.filter(_within(seen.pairs["pair_id"], set(named["pair_id"].to_pylist())))
    first = {row["pair_id"]: row for row in pairs.to_pylist()}
    for vote in named.to_pylist():
        row = vote if "source_row" in vote else first.get(vote["pair_id"])
        if row is not None:
            entry = f"annotator#{annotator_id(vote['annotator'])}"
            gone.source_rows.setdefault(row["source_file"], set()).add(row["source_row"])
            gone.source_files.setdefault(entry, set()).update(seen.files.get(row["source_file"], ()))
