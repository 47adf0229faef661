"""Names of jobs: labels of DNS, the same for the same work, different for different work."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.platform.names import MOST_CHARACTERS, job_name

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4).filter(any))
def test_a_name_is_a_label_of_dns_and_always_the_same(parts: list[str]) -> None:
    name = job_name(*parts)
    assert LABEL.fullmatch(name)
    assert len(name) <= MOST_CHARACTERS
    assert job_name(*parts) == name


def test_what_fits_stays_readable() -> None:
    assert job_name("nightly", "run-7", "train", "3") == "nightly-run-7-train-3"


@pytest.mark.parametrize(
    "parts",
    [("p" * 60, "train"), ("p" * 60, "score"), ("Train",), ("tr_ain",), ("7",), ("train ",), ("tr--ain",), ("中",)],
)
def test_what_was_changed_or_shortened_ends_in_a_hash(parts: tuple[str, ...]) -> None:
    assert re.fullmatch(r".*-[0-9a-f]{8}", job_name(*parts))


def test_different_jobs_have_different_names() -> None:
    parts = [("p" * 60, "train"), ("p" * 60, "score"), ("Train",), ("train",), ("TRAIN",), ("tr_ain",), ("tr-ain",)]
    assert len({job_name(*part) for part in parts}) == len(parts)


def test_a_job_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        job_name("", "")
