"""Read images where they lie: table cells in row order, or files of their own. Pixels never travel."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from prefopt.config.ingest import Limits
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.images import decode_image
from prefopt.data.sources import Source, open_source
from prefopt.data.sources.base import BadRowError
from prefopt.data.sources.rows import units_with
from prefopt.errors import InputError


def read_pixels(
    sources: tuple[SourceConfig, ...], places: Sequence[dict[str, Any]], limits: Limits
) -> Iterator[tuple[str, Image.Image]]:
    """(image_id, RGB image) for rows of IMAGES sorted by (source, file, row), one image in memory at a time.

    InputError if an image that ingest accepted cannot be read any more.
    """
    opened = functools.cache(lambda index: open_source(sources[index]))
    for (index, file), group in itertools.groupby(places, key=lambda place: (place["source"], place["file"])):
        source = opened(index)
        rows = list(group)
        try:
            if rows[0]["row"] < 0:
                cells: Iterator[tuple[dict[str, Any], bytes]] = (
                    (row, source.image_bytes(file, limits.image_bytes)) for row in rows
                )
            else:
                cells = _cells(source, file, rows)
            for row, data in cells:
                yield row["image_id"], decode_image(data, limits)
        except BadRowError as error:
            raise InputError(
                f"An image of {file} that ingest accepted cannot be decoded ({error.detail}). If the file has changed"
                " since, put it back and run the same command again: finished work is kept. If it was always damaged,"
                " set ingest.verify_images: full, so that such rows are set aside."
            ) from None


def _cells(source: Source, file: str, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    wanted: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        wanted.setdefault(row["row"], []).append(row)
    for unit in units_with(source.root, file, list(wanted)):
        for _, number, values in source.rows(unit):
            if number in wanted:
                data = {cell.column: cell.data for cell in source.parse(values).images}
                for row in wanted[number]:
                    if data.get(row["column"]) is None:
                        raise BadRowError("bad_image", f"row {number} holds no image in {row['column']}")
                    yield row, data[row["column"]]  # type: ignore[misc]
