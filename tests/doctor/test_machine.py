"""Checks of the machine with figures given."""

import pytest
from packaging.requirements import Requirement

from prefopt.doctor.machine import (
    check_accelerators,
    check_disk,
    check_memory,
    check_packages,
    check_processors,
    check_python,
    free_memory,
    required_packages,
)


@pytest.mark.parametrize(
    ("version", "state"), [("3.11.9", "ok"), ("3.12.1", "ok"), ("3.10.2", "problem"), ("3.13.0", "problem")]
)
def test_python(version: str, state: str) -> None:
    assert check_python(version).state == state


def test_packages_in_words() -> None:
    needed = [Requirement("torch>=2.13,<2.14"), Requirement("Ray[data]>=2.60"), Requirement("absent>=1")]
    found = check_packages(needed, {"torch": "2.12.0", "ray": "2.60.0"})
    assert (found.state, found.found) == ("problem", "torch 2.12.0 is outside <2.14,>=2.13; absent is missing.")
    assert check_packages(needed[:2], {"torch": "2.13.1+cpu", "ray": "2.60.0"}).state == "ok"


def test_extras_are_not_required() -> None:
    names = {need.name for need in required_packages()}
    assert {"torch", "ray", "pydantic"} <= names
    assert not {"pytest", "kfp"} & names


@pytest.mark.parametrize(("free", "state"), [(None, "warning"), (3.0, "warning"), (64.0, "ok")])
def test_memory(free: float | None, state: str) -> None:
    assert check_memory(free).state == state


def test_memory_is_measured_here() -> None:
    free = free_memory()
    assert free is not None
    assert 0.0 < free < 100_000.0


def test_disk_of_a_place_that_is_not_there_yet(tmp_path: object) -> None:
    assert "GiB are free" in check_disk("store", f"{tmp_path}/a/b/c").found


def test_processors_and_accelerators() -> None:
    assert check_processors(1).state == "warning"
    assert check_processors(8).state == "ok"
    assert check_accelerators([("X", 80.0), ("X", 80.0)]).found == "2 GPUs: X with 80 GiB, X with 80 GiB."
    assert check_accelerators([]).state == "ok"
