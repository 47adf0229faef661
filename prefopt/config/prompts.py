"""Which prompts an evaluation draws: the run's own held-out ones, files, and published sets."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from prefopt.config.base import Branch, Count

FILE_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")


class _Set(Branch):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = ""
    """How reports and tables call the set; by default its kind."""
    most: Count | None = None
    """At most so many prompts, the first in hash order; all by default."""
    order: Annotated[int, Field(ge=0)] = 0
    """Which hash order."""
    rotates: bool = False
    """Whether every night of `prefopt retrain` takes another order, and so other prompts."""

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_kind(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") is None:
            return {**given, "name": given.get("kind")}
        return given


class HeldoutPrompts(_Set):
    """The prompts of `evaluate.split`, which training never reads."""

    kind: Literal["heldout"]
    most: Count | None = 500
    """At most so many prompts, the first in hash order; null takes all."""


class FilePrompts(_Set):
    """One's own prompts: a .txt with a prompt a line, or a .csv, .tsv, .jsonl or .parquet with columns."""

    kind: Literal["file"]
    path: str
    """Local or s3://."""
    prompt_column: str = "prompt"
    category_column: str | None = None
    """A column that slices are made by."""

    @field_validator("path")
    @classmethod
    def _known_format(cls, path: str) -> str:
        return _ending(path, FILE_SUFFIXES)

    @model_validator(mode="after")
    def _lines_have_no_columns(self) -> "FilePrompts":
        if self.path.endswith(".txt") and (self.category_column is not None or self.prompt_column != "prompt"):
            raise ValueError("a .txt file holds a prompt a line and no columns: leave the columns out, or give a .csv")
        return self


class PartiPrompts(_Set):
    """PartiPrompts: PartiPrompts.tsv with the columns Prompt, Category, Challenge and Note."""

    kind: Literal["partiprompts"]
    path: str
    """The TSV file, local or s3://."""

    @field_validator("path")
    @classmethod
    def _known_format(cls, path: str) -> str:
        return _ending(path, (".tsv",))


class PickapicPrompts(_Set):
    """Pick-a-Pic's sets of different prompts: the column `caption` of parquet files."""

    kind: Literal["pickapic"]
    path: str
    """A parquet file, or a directory with files named after `split`; local or s3://."""
    split: Literal["validation_unique", "test_unique"] = "test_unique"
    """Whose files are read where `path` is a directory. v1 and v2 hold other prompts: compare within one."""


class Hpdv2Prompts(_Set):
    """The benchmark of HPDv2: anime.json, concept-art.json, paintings.json and photo.json, lists of 800 prompts."""

    kind: Literal["hpdv2"]
    path: str
    """The directory of the four files, local or s3://."""


class DrawBenchPrompts(_Set):
    """DrawBench: drawbench.json, a list of prompts, or the CSV with the columns Prompts and Category."""

    kind: Literal["drawbench"]
    path: str
    """The JSON or CSV file, local or s3://."""

    @field_validator("path")
    @classmethod
    def _known_format(cls, path: str) -> str:
        return _ending(path, (".json", ".csv"))


PromptSetConfig = Annotated[
    HeldoutPrompts | FilePrompts | PartiPrompts | PickapicPrompts | Hpdv2Prompts | DrawBenchPrompts,
    Field(discriminator="kind"),
]


def _ending(path: str, suffixes: tuple[str, ...]) -> str:
    if not path.endswith(suffixes):
        raise ValueError(f"must be a file that ends in {' or '.join(suffixes)}")
    return path
