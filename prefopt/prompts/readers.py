"""Readers of prompt sets, one per kind."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefopt.config.prompts import DrawBenchPrompts, FilePrompts, Hpdv2Prompts, PartiPrompts, PickapicPrompts
from prefopt.data.ids import normalised_prompt, prompt_order
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.prompts.base import PromptRow
from prefopt.prompts.records import json_texts, records, require_file, text_lines

STYLES = ("anime", "concept-art", "paintings", "photo")


class Heldout:
    """The prompts of pairs, each once, in hash order."""

    keeps_repeats = True

    def __init__(self, pairs: Iterable[Mapping[str, Any]], elsewhere: Iterable[str] = ()) -> None:
        """`pairs` have prompt and category. Prompts in `elsewhere` are left out: other splits use them, and only a
        shared image brought them here."""
        others = {normalised_prompt(prompt) for prompt in elsewhere}
        found: dict[str, set[str]] = {}
        for pair in pairs:
            if normalised_prompt(pair["prompt"]) not in others:
                found.setdefault(pair["prompt"], set()).add(pair["category"])
        self._categories = {prompt: min(filter(None, names), default="") for prompt, names in found.items()}

    def files(self) -> list[tuple[Storage, str]]:
        """None: the pairs belong to the run."""
        return []

    def rows(self) -> Iterator[PromptRow]:
        """InputError if there are none."""
        if not self._categories:
            raise InputError(
                "Every held-out prompt is used by another split too, since all its pairs share images with it: there"
                " is nothing to evaluate on. Give more data."
            )
        for prompt in sorted(self._categories, key=prompt_order):
            yield PromptRow("the held-out pairs", prompt, self._categories[prompt])


class File:
    """A prompt a line, or a table."""

    keeps_repeats = False

    def __init__(self, config: FilePrompts) -> None:
        self._config = config
        self._root, self._file = _place(config.path)

    def files(self) -> list[tuple[Storage, str]]:
        """The one file."""
        return _there([(self._root, self._file)])

    def rows(self) -> Iterator[PromptRow]:
        """All rows. InputError if a named column is in none."""
        if self._file.endswith(".txt"):
            return (PromptRow(where, line) for where, line in text_lines(self._root, self._file))
        return _rows(self._root, self._file, self._config.prompt_column, self._config.category_column)


class Parti:
    """PartiPrompts."""

    keeps_repeats = True

    def __init__(self, config: PartiPrompts) -> None:
        self._root, self._file = _place(config.path)

    def files(self) -> list[tuple[Storage, str]]:
        """The TSV."""
        return _there([(self._root, self._file)])

    def rows(self) -> Iterator[PromptRow]:
        """All rows, with category and challenge."""
        return _rows(self._root, self._file, "Prompt", "Category", "Challenge")


class Pickapic:
    """A split of different prompts of Pick-a-Pic."""

    keeps_repeats = True

    def __init__(self, config: PickapicPrompts) -> None:
        self._config = config

    def files(self) -> list[tuple[Storage, str]]:
        """The given parquet file, or those of a directory whose name starts with the split's."""
        path, split = self._config.path, self._config.split
        if path.endswith(".parquet"):
            return _there([_place(path)])
        root = Storage(path)
        names = [name for name in root.files() if name.endswith(".parquet")]
        found = [name for name in names if name.rpartition("/")[2].startswith(split)]
        if not found:
            raise InputError(f"There is no {split}*.parquet in {path}. Check the path and split of the prompt set.")
        return [(root, name) for name in found]

    def rows(self) -> Iterator[PromptRow]:
        """All rows."""
        for root, file in self.files():
            yield from _rows(root, file, "caption")


class Hpdv2:
    """The four styles of HPDv2's benchmark; the style is the category."""

    keeps_repeats = True

    def __init__(self, config: Hpdv2Prompts) -> None:
        self._root = Storage(config.path)

    def files(self) -> list[tuple[Storage, str]]:
        """One per style."""
        return _there([(self._root, f"{style}.json") for style in STYLES])

    def rows(self) -> Iterator[PromptRow]:
        """All prompts, style by style."""
        for style in STYLES:
            for where, prompt in json_texts(self._root, f"{style}.json"):
                yield PromptRow(where, prompt, style)


class DrawBench:
    """DrawBench; only the CSV has categories."""

    keeps_repeats = True

    def __init__(self, config: DrawBenchPrompts) -> None:
        self._root, self._file = _place(config.path)

    def files(self) -> list[tuple[Storage, str]]:
        """The one file."""
        return _there([(self._root, self._file)])

    def rows(self) -> Iterator[PromptRow]:
        """All rows."""
        if self._file.endswith(".csv"):
            return _rows(self._root, self._file, "Prompts", "Category")
        return (PromptRow(where, prompt) for where, prompt in json_texts(self._root, self._file))


def _rows(
    root: Storage, file: str, prompt: str, category: str | None = None, challenge: str | None = None
) -> Iterator[PromptRow]:
    """Rows of a table. A JSON line must have the prompt's field; the others may be left out of some lines."""
    optional = [name for name in (category, challenge) if name is not None]
    unseen = set(optional)
    for where, values in records(root, file, [prompt, *optional]):
        if values and prompt not in values:
            raise InputError(f"{where} has no field {prompt!r}; it has {', '.join(values)}. Mend the line.")
        unseen -= values.keys()
        cells = [values.get(name) if name is not None else None for name in (category, challenge)]
        yield PromptRow(where, values.get(prompt), *cells)
    if unseen and file.endswith(".jsonl"):
        raise InputError(f"No line of {root.uri}/{file} has a field {', '.join(map(repr, sorted(unseen)))}.")


def _place(path: str) -> tuple[Storage, str]:
    directory, slash, name = path.rpartition("/")
    return Storage(directory or slash or "."), name


def _there(files: list[tuple[Storage, str]]) -> list[tuple[Storage, str]]:
    for root, file in files:
        require_file(root, file)
    return files
