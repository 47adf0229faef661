from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ObjectStoreFullError

from prefopt.config.cluster import ClusterConfig
from prefopt.data.storage import Storage
from prefopt.distributed.units import RETRIES, Unit, run_units
from prefopt.errors import InputError, StorageError, WorkerError
from tests.kit.units import ERRORS, Squares, Unloadable


class Place:
    """A directory of receipts and one of calls."""

    def __init__(self, place: Path, cluster: ClusterConfig) -> None:
        self.cluster = cluster
        self.calls, self.receipts = place / "calls", Storage(str(place / "receipts"))
        self.calls.mkdir()
        self.said: list[tuple[int, int, str]] = []

    def run(self, payloads: list[dict[str, Any]], actors: bool = False, worker: Any = None) -> list[dict[str, Any]]:
        return run_units(
            [Unit(f"unit {payload['number']}", payload) for payload in payloads],
            worker or partial(Squares, str(self.calls)),
            receipts=self.receipts,
            cluster=self.cluster,
            progress=lambda done, total, what: self.said.append((done, total, what)),
            what="squares",
            actors=actors,
        )

    def called(self) -> list[str]:
        return sorted(path.name for path in self.calls.iterdir())


@pytest.fixture
def on_ray(tmp_path: Path, ray_session: None) -> Place:
    return Place(tmp_path, ClusterConfig())


@pytest.fixture(params=["ray", "process"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """On each engine."""
    if request.param == "ray":
        request.getfixturevalue("ray_session")
    return Place(tmp_path, ClusterConfig(engine=request.param))


@pytest.mark.parametrize("actors", [False, True])
def test_receipts_come_in_the_order_of_the_units(place: Place, actors: bool) -> None:
    receipts = place.run([{"number": n} for n in (5, 1, 3)], actors)
    assert receipts == [{"square": 25}, {"square": 1}, {"square": 9}]
    assert place.said == [(n, 3, "squares") for n in range(4)]


def test_units_with_a_receipt_are_not_done_again(place: Place) -> None:
    place.run([{"number": n} for n in range(4)])
    place.receipts.delete("unit 2.json")
    place.said.clear()
    assert place.run([{"number": n} for n in range(5)]) == [{"square": n * n} for n in range(5)]
    assert place.called() == ["0-0", "1-0", "2-0", "2-1", "3-0", "4-0"]
    assert place.said[0] == (3, 5, "squares")


@pytest.mark.parametrize("kind", ERRORS)
def test_a_workers_error_ends_the_run_as_itself(place: Place, kind: str) -> None:
    with pytest.raises(ERRORS[kind], match=r"^unit 2 failed$"):
        place.run([{"number": 1}, {"number": 2, "error": kind}])
    assert not place.receipts.exists("unit 2.json")
    assert place.run([{"number": 1}, {"number": 2}])[1] == {"square": 4}


def test_units_that_were_finished_before_an_error_are_kept(place: Place) -> None:
    kept = [{"number": 1}, {"number": 2}]
    place.run(kept)
    with pytest.raises(InputError, match="unit 3 failed"):
        place.run([*kept, {"number": 3, "error": "InputError"}])
    place.run([*kept, {"number": 3}])
    assert place.called() == ["1-0", "2-0", "3-0", "3-1"]


def test_in_one_process_the_units_before_a_failed_one_are_kept(tmp_path: Path) -> None:
    place = Place(tmp_path, ClusterConfig(engine="process"))
    with pytest.raises(InputError, match="unit 2 failed"):
        place.run([{"number": 1}, {"number": 2, "error": "InputError"}, {"number": 3}])
    assert place.called() == ["1-0", "2-0"]
    place.run([{"number": 1}, {"number": 2}, {"number": 3}])
    assert place.called() == ["1-0", "2-0", "2-1", "3-0"]


def test_a_worker_that_cannot_be_made_ends_the_run(place: Place) -> None:
    with pytest.raises(InputError, match="no such model"):
        place.run([{"number": 1}], actors=True, worker=Unloadable)


@pytest.mark.parametrize("actors", [False, True])
def test_a_unit_that_kills_its_process_is_begun_again_a_few_times(on_ray: Place, actors: bool) -> None:
    with pytest.raises(WorkerError, match=r"A process that worked on squares died.* \(3 times at most\) did not help"):
        on_ray.run([{"number": 1, "dies": True}], actors)
    assert len(on_ray.called()) == RETRIES + 1
    assert on_ray.run([{"number": 1}], actors) == [{"square": 1}]


def test_a_full_object_store_is_noticed_before_any_work(on_ray: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise ObjectStoreFullError("full")

    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(StorageError, match=r"object store is full.* squares cannot go on"):
        on_ray.run([{"number": 1}])
    assert not on_ray.called()


def test_no_units_no_work(place: Place) -> None:
    assert place.run([]) == []
