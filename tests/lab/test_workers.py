"""Threads that wait for a cluster's jobs, with laboratories that send none."""

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from prefopt.config.cluster import ClusterConfig
from prefopt.errors import GuardError, WorkerError
from prefopt.lab.cells import Cell
from prefopt.lab.jobs import Job
from prefopt.lab.outcome import Outcome
from prefopt.lab.work import Laboratory
from prefopt.lab.workers import Threads, Workers, hired
from tests.kit.laboratories import outcome

CELL = Cell("dpo", "clean", 0.0, 3, None, ())
OWN = Job("evaluate e", CELL, None)
STAGE = Job("ingest i", CELL, "ingest")


class Stub(Laboratory):
    """Cells and stages do what a test says."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__("run.yaml", "place", None, elsewhere=True)
        object.__setattr__(self, "work", work)

    work: Callable[[], None]

    def do_cell(self, cell: Cell) -> Outcome:
        self.work()
        return outcome(cell)

    def do_stage(self, stage: str, cell: Cell) -> None:
        self.work()


def failing(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def waiting(event: threading.Event | threading.Barrier) -> Callable[[], None]:
    def work() -> None:
        event.wait()

    return work


def begin_and_stop(workers: Workers) -> None:
    workers.begin(OWN)
    raise KeyboardInterrupt


def only(threads: Threads, job: Job) -> object:
    threads.begin(job)
    ((ended, given),) = threads.finished()
    assert ended == job
    assert threads.under_way == 0
    return given


def test_a_thread_gives_a_cells_outcome_and_nothing_of_a_stage() -> None:
    threads = Threads(Stub(lambda: None), 2)
    assert only(threads, OWN) == outcome(CELL)
    assert only(threads, STAGE) is None


def test_what_goes_wrong_in_a_thread_is_given_as_an_error() -> None:
    guarded = only(Threads(Stub(failing(GuardError("It diverged."))), 1), OWN)
    assert isinstance(guarded, GuardError)
    assert str(guarded) == "It diverged."
    unexpected = only(Threads(Stub(failing(KeyError("score"))), 1), STAGE)
    assert isinstance(unexpected, WorkerError)
    assert "KeyError" in str(unexpected)


def test_threads_work_side_by_side() -> None:
    meet = threading.Barrier(2, timeout=60)
    threads = Threads(Stub(waiting(meet)), 2)
    threads.begin(OWN)
    threads.begin(STAGE)
    found = [pair for _ in range(2) for pair in threads.finished()]
    assert {job.name: given for job, given in found} == {"evaluate e": outcome(CELL), "ingest i": None}


def test_a_sitting_that_is_stopped_says_what_becomes_of_its_jobs() -> None:
    end, said = threading.Event(), list[str]()
    stopped = hired(Stub(waiting(end)), ClusterConfig(), 2, lambda: None, said.append)
    with pytest.raises(KeyboardInterrupt), stopped as workers:
        begin_and_stop(workers)
    daemons = [one.daemon for one in threading.enumerate() if one.name == OWN.name]
    end.set()
    assert daemons == [True], "the process would wait for it"
    assert "left under way: 1. Their jobs on the cluster go on, and the same command watches them" in said[0]


def test_nothing_is_said_of_jobs_where_none_is_under_way() -> None:
    said = list[str]()
    with pytest.raises(KeyboardInterrupt), hired(Stub(lambda: None), ClusterConfig(), 2, lambda: None, said.append):
        raise KeyboardInterrupt
    assert said == []


STOPPED = """
import threading
from prefopt.config.cluster import ClusterConfig
from prefopt.lab.workers import hired
from tests.lab.test_workers import OWN, Stub

begun = threading.Event()
def work():
    begun.set()
    threading.Event().wait()
with hired(Stub(work), ClusterConfig(), 2, lambda: None, print) as workers:
    workers.begin(OWN)
    begun.wait()
    raise KeyboardInterrupt
"""


@pytest.mark.slow
def test_a_process_that_is_stopped_does_not_wait_for_its_jobs() -> None:
    ended = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=120)
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "left under way" in ended.stdout
