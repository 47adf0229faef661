"""Readers of preference data, one per format, behind one protocol."""

from prefopt.config.ingest import (
    FolderSource,
    Hpdv2Source,
    PickapicSource,
    TableSource,
    WorldSource,
)
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.sources.base import Source
from prefopt.data.sources.hpdv2 import Hpdv2
from prefopt.data.sources.pickapic import Pickapic
from prefopt.data.sources.table import Folder, MappedTable

__all__ = ["Source", "open_source"]


def open_source(config: SourceConfig) -> Source:
    """The reader of a configured source. A world source must have been written out first (ValueError)."""
    match config:
        case PickapicSource():
            return Pickapic(config)
        case Hpdv2Source():
            return Hpdv2(config)
        case FolderSource():
            return Folder(config)
        case TableSource():
            return MappedTable(config)
        case WorldSource():
            raise ValueError("the embedded world's data set is read as a Pick-a-Pic source")
