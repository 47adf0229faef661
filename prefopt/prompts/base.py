"""What every prompt set gives: prompts in a fixed order, with a category and a challenge where it has them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from prefopt.data.storage import Storage


@dataclass(frozen=True)
class Prompt:
    """A prompt as written, and what slices are made by; an empty text where the set does not tell."""

    prompt: str
    category: str = ""
    challenge: str = ""


class PromptRow(NamedTuple):
    """A row of a set before it is checked."""

    where: str
    """File and row, for errors."""
    prompt: Any
    category: Any = None
    challenge: Any = None


@dataclass(frozen=True)
class PromptList:
    """The prompts of a set, checked, in the set's own order."""

    name: str
    kind: str
    prompts: tuple[Prompt, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """How many rows were left out, by reason: empty_prompt, prompt_too_long, duplicate_prompt."""
    repeated: int = 0
    """Rows kept although an earlier one differs from them in case, spacing or a trailing full stop at most."""


class PromptSet(Protocol):
    """A set of prompts: the files that it lies in, and their rows."""

    keeps_repeats: bool
    """Whether a prompt that the set repeats stays: a published set is drawn as it was published."""

    def files(self) -> list[tuple[Storage, str]]:
        """The files, in the order in which they are read. InputError if one is not there."""
        ...

    def rows(self) -> Iterator[PromptRow]:
        """All rows in order. InputError for a file that cannot be read, or a row that is malformed."""
        ...
