"""Where a laboratory works."""

from pathlib import Path

from prefopt.lab.cells import every_cell
from prefopt.lab.work import Laboratory
from tests.kit.laboratories import loaded


def test_a_directory_of_any_name_holds_the_store(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    cell = next(every_cell(config))
    for name in ("lab #1", "lab: two", "'lab'", "[lab]"):
        assert Laboratory(config.run, f"{tmp_path}/{name}", None).config(cell).store == f"{tmp_path}/{name}/store"
