"""What a stage is: a name, what it depends on, and a function from its inputs to its output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefopt.config import RunConfig
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.manifest import Manifest, Rows
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import NOTHING, Withdrawn

if TYPE_CHECKING:
    from prefopt.distributed.costly import CostlyRows
    from prefopt.distributed.units import Progress


@dataclass(frozen=True)
class StageOutput:
    """A finished stage: where its files lie, and its manifest."""

    storage: Storage
    manifest: Manifest


@dataclass(frozen=True)
class StageContext:
    """All that a running stage may use."""

    config: RunConfig
    sources: tuple[SourceConfig, ...]
    """The configured sources; an embedded world's data set has been written and stands as what it is, a table."""
    parents: Mapping[str, StageOutput]
    output: Storage
    """The stage's own directory. A partly written one from an interrupted run may lie here."""
    store: Storage
    """Append-only stores shared by runs."""
    logs: Storage
    """For what no manifest lists: wall times, host names."""
    progress: "Progress"
    source_digests: Sequence[Sequence[Any]] = ()
    """Name, bytes and sha256 of every file, source by source."""
    key: str = ""
    """Of this stage."""
    withdrawn: Withdrawn = NOTHING
    """What ingest leaves out."""


@dataclass(frozen=True)
class StageResult:
    """What a stage made; the chain writes the manifest from it."""

    rows: Rows
    files: list[str]
    """Paths relative to the stage's directory, all of them written."""
    summary: dict[str, int | float | str | None] = field(default_factory=dict)


def costly_rows(context: StageContext) -> "CostlyRows":
    """The stores of rewards and latents as this stage may fill them."""
    from prefopt.distributed.costly import CostlyRows

    return CostlyRows(context.config, context.sources, context.store, context.output.child("work"), context.progress)


RunStage = Callable[[StageContext], StageResult]
