from pathlib import Path

import pytest

from prefopt.config.ingest import Limits
from prefopt.data.storage import Storage
from prefopt.distributed.thumbnails import UNIT_IMAGES, MakeThumbnails, thumbnail_units
from prefopt.errors import InputError
from tests.kit.data import distinct, picture, small_config, write_parquet


def place(number: int, column: int) -> dict[str, object]:
    return {
        **{
            "image_id": f"{number}-{column}",
            "source": 0,
            "file": "x.parquet",
            "row": number,
            "column": f"jpg_{column}",
        },
        **{"width": 16, "height": 16, "bytes": 100},
    }


def maker(tmp_path: Path, **limits: int) -> MakeThumbnails:
    write_parquet(tmp_path / "x.parquet", distinct(12))
    config = small_config(tmp_path, [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}])
    return MakeThumbnails(config.ingest.sources, Limits(**limits), 64, 5_000, Storage(str(tmp_path / "work")))


def test_units_are_in_reading_order_and_cover_every_image() -> None:
    places = [place(number, column) for number in (7, 2, 11) for column in (1, 0)]
    units = thumbnail_units(places)
    assert [len(unit.payload["images"]) for unit in units] == [UNIT_IMAGES, 6 - UNIT_IMAGES]
    rows = [(row["row"], row["column"]) for unit in units for row in unit.payload["images"]]
    assert rows == sorted(rows)
    assert thumbnail_units([]) == []
    assert units == thumbnail_units(places[::-1])


def test_a_unit_holds_its_small_pictures(tmp_path: Path) -> None:
    make = maker(tmp_path)
    (unit,) = thumbnail_units([place(5, 0), place(5, 1)])
    assert make(unit.payload) == {"images": 2}
    rows = make.work.read_table(unit.payload["file"]).to_pylist()
    assert [(row["image_id"], row["kind"]) for row in rows] == [("5-0", "png"), ("5-1", "png")]
    assert len({row["data"] for row in rows}) == 2
    assert rows[0]["data"] != picture(10), "it is drawn anew, not copied"


def test_images_are_read_within_the_limits(tmp_path: Path) -> None:
    (unit,) = thumbnail_units([place(5, 0)])
    with pytest.raises(InputError, match="cannot be decoded"):
        maker(tmp_path, image_pixels=100)(unit.payload)
