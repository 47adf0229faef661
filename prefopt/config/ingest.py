"""Where preference data comes from, how it is checked, and how it is split."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from prefopt.config.base import Branch, Count, Share


class PickapicSource(Branch):
    """Parquet in the Pick-a-Pic schema (v1 or v2)."""

    kind: Literal["pickapic"]
    path: str
    """A parquet file or a directory of parquet files, local or s3://."""
    group_column: str | None = None
    """A column that names the annotator's group, where the data has one."""
    category_column: str | None = None
    """A column that names the prompt's category, where the data has one."""


class Hpdv2Source(Branch):
    """HPDv2: train.json (human_preference) or test.json (several annotations per prompt)."""

    kind: Literal["hpdv2"]
    path: str
    """The JSON file."""
    images: str
    """The directory that the JSON's image paths are relative to."""


class FolderSource(Branch):
    """A folder of images with a CSV or JSONL file of (winner, loser, prompt, optional annotator)."""

    kind: Literal["folder"]
    path: str
    """The CSV or JSONL file."""
    images: str
    """The folder that holds the images."""


class VoteColumns(Branch):
    """One row per vote: two images and the probability that the first wins."""

    shape: Literal["vote"] = "vote"
    prompt: str
    image_0: str
    image_1: str
    label: str
    """P(image_0 wins), in [0, 1]."""
    annotator: str | None = None
    group: str | None = None
    time: str | None = None
    category: str | None = None
    """Of the prompt."""


class CountColumns(Branch):
    """One row per pair: how often each of two images was chosen."""

    shape: Literal["counts"]
    prompt: str
    image_0: str
    image_1: str
    wins_0: str
    wins_1: str
    category: str | None = None
    """Of the prompt."""


class RankingColumns(Branch):
    """One row per k-way ranking: a list of images and a list of ranks (1 is best; equal ranks tie)."""

    shape: Literal["ranking"]
    prompt: str
    images: str
    ranks: str
    annotator: str | None = None
    group: str | None = None
    time: str | None = None
    category: str | None = None
    """Of the prompt."""


def _shape(columns: Any) -> Any:
    if isinstance(columns, dict):
        return columns.get("shape", "vote")
    return getattr(columns, "shape", None)


class TableSource(Branch):
    """Any parquet or JSONL table, read through a column map."""

    kind: Literal["table"]
    path: str
    """A parquet or JSONL file, or a directory of them, local or s3://."""
    images: str | None = None
    """What relative image URIs are relative to; by default the table's own directory."""
    columns: Annotated[
        Annotated[VoteColumns, Tag("vote")]
        | Annotated[CountColumns, Tag("counts")]
        | Annotated[RankingColumns, Tag("ranking")],
        Discriminator(_shape),
    ]
    """A table of votes, unless `shape` says otherwise."""


class WorldSource(Branch):
    """The embedded world writes a data set in the Pick-a-Pic schema, which is then read as such."""

    kind: Literal["world"]
    pairs: Count = 1200
    seed: int = 0
    shares: dict[Literal["majority", "noir", "ornate", "careless"], Share] | None = None
    """Of the annotators, by group; by default 0.88 majority and 0.04 of each other."""
    votes_per_pair: Annotated[int, Field(ge=1, le=60)] = 3
    """How many people judge a pair that several judge."""
    repeated: Share = 0.1
    """Share of the pairs that several people judge; one person judges each other pair."""

    @field_validator("shares")
    @classmethod
    def _everybody_is_in_a_group(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None and abs(sum(shares.values()) - 1.0) > 1e-9:
            raise ValueError(f"the shares sum to {sum(shares.values()):g}, not to 1")
        return shares


Source = Annotated[PickapicSource | Hpdv2Source | FolderSource | TableSource | WorldSource, Field(discriminator="kind")]


class Limits(Branch):
    """What a single row may hold; larger rows are quarantined."""

    image_pixels: Count = 64_000_000
    image_bytes: Count = 64_000_000
    prompt_bytes: Count = 8_000


class Split(Branch):
    """Shares of prompts held back; a prompt's split depends on the seed and the prompt alone."""

    seed: int = 0
    validation: Share = 0.05
    test: Share = 0.1

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "Split":
        if self.validation + self.test >= 1.0:
            raise ValueError("validation + test must leave a share for training")
        return self


class IngestConfig(Branch):
    """From preference data to canonical pairs and votes."""

    sources: tuple[Source, ...] = ()
    """At least one, but where models are compared without a run."""
    split: Split = Split()
    limits: Limits = Limits()
    verify_images: Literal["full", "header"] = "full"
    """`full` decodes every image once, so that a truncated file is found here; `header` trusts the bytes."""
    unit_rows: Count = 2_000
    """Rows per work unit: the grain of resuming, and the bound on memory."""
    withdrawn: str | None = None
    """A .txt or .csv file, local or s3://, of what may no longer be used: a pair id, an image id or annotator:NAME a
    line. Its rows go to quarantine."""

    @field_validator("withdrawn")
    @classmethod
    def _known_format(cls, path: str | None) -> str | None:
        if path is not None and not path.endswith((".txt", ".csv")):
            raise ValueError("must be a file that ends in .txt or .csv")
        return path
