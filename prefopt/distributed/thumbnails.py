"""Work units of the data card: small pictures of a few images, read where they lie."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prefopt.config.ingest import Limits
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.storage import Storage
from prefopt.distributed.pixels import read_pixels
from prefopt.distributed.units import Unit
from prefopt.page.pictures import thumbnail

UNIT_IMAGES = 4
_SCHEMA = pa.schema([("image_id", pa.string()), ("kind", pa.string()), ("data", pa.binary())])


def thumbnail_units(places: list[dict[str, Any]]) -> list[Unit]:
    """Units of rows of IMAGES, in reading order."""
    ordered = sorted(places, key=lambda row: tuple(row[name] for name in ("source", "file", "row", "column")))
    cut = [ordered[start : start + UNIT_IMAGES] for start in range(0, len(ordered), UNIT_IMAGES)]
    names = [f"{number:05d}" for number in range(len(cut))]
    return [
        Unit(name, {"images": images, "file": f"thumbnails-{name}.parquet"})
        for name, images in zip(names, cut, strict=True)
    ]


@dataclass(frozen=True)
class MakeThumbnails:
    """Makes small pictures of a unit's images, one decoded at a time."""

    sources: tuple[SourceConfig, ...]
    limits: Limits
    largest: int
    """Pixels of the longest side."""
    most_bytes: int
    work: Storage

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = [
            (image_id, *thumbnail(image, self.largest, self.most_bytes))
            for image_id, image in read_pixels(self.sources, payload["images"], self.limits)
        ]
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)]
        self.work.write_table(payload["file"], pa.table(columns, schema=_SCHEMA))
        return {"images": len(rows)}
