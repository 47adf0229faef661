from dataclasses import replace

from prefopt.errors import WorkerError
from prefopt.lab.cells import Cell
from prefopt.lab.jobs import Job, Jobs

DPO = Cell("dpo", "clean", 0.0, 0, None, ("train.objective={name: dpo}",))
IPO = replace(DPO, method="ipo")
AGAIN = replace(DPO, method="dpo again")
NOISY = replace(DPO, noise="flips")
NOISIER = replace(DPO, noise="more flips")
KEYS = {
    DPO: {"ingest": "i", "inject": "j", "score": "s", "train": "t", "evaluate": "e dpo"},
    IPO: {"ingest": "i", "inject": "j", "score": "s", "train": "u", "evaluate": "e ipo"},
    NOISY: {"ingest": "i", "inject": "j noisy", "score": "s noisy", "train": "v", "evaluate": "e noisy"},
    NOISIER: {"ingest": "i", "inject": "j noisier", "score": "s noisier", "train": "w", "evaluate": "e noisier"},
}
KEYS[AGAIN] = KEYS[DPO]
ERROR = WorkerError("It broke.")


def jobs() -> Jobs:
    return Jobs(KEYS.__getitem__)


def step(work: Jobs, *cells: Cell) -> Job:
    """The next job, which must be there."""
    job = work.next(work.waiting(cells))
    assert job
    return job


def done(work: Jobs, *cells: Cell) -> list[str]:
    """Every job in the order of one worker."""
    found = []
    while job := work.next(work.waiting(cells)):
        found.append(job.name)
        work.done(job)
    return found


def test_what_cells_share_is_done_once_and_first() -> None:
    assert done(jobs(), DPO, IPO) == ["ingest i", "inject j", "score s", "evaluate e dpo", "evaluate e ipo"]


def test_two_cells_of_one_run_are_one_job() -> None:
    work = jobs()
    assert work.waiting([DPO, AGAIN]) == [DPO]
    assert done(work, DPO, AGAIN) == ["ingest i", "inject j", "score s", "evaluate e dpo"]
    assert done(work, AGAIN) == []


def test_two_workers_never_wait_for_each_others_rows() -> None:
    work, cells = jobs(), (DPO, NOISY)
    ingest = step(work, *cells)
    assert work.next(work.waiting(cells)) is None
    work.done(ingest)
    inject, noisy = step(work, *cells), step(work, *cells)
    assert (inject.name, noisy.name) == ("inject j", "inject j noisy")
    work.done(inject)
    work.done(noisy)
    score = step(work, *cells)
    assert score.name == "score s"
    assert work.next(work.waiting(cells)) is None, "the second score finds what the first has stored"
    work.done(score)
    assert set(done(work, *cells)) == {"score s noisy", "evaluate e dpo", "evaluate e noisy"}


def test_what_a_failure_takes_with_it_is_told_and_the_rest_goes_on() -> None:
    work, cells = jobs(), (NOISY, DPO, IPO)
    work.done(step(work, *cells))
    inject = step(work, *cells)
    assert inject.name == "inject j noisy"
    work.failed(inject, ERROR)
    assert [work.failure(cell) for cell in cells] == [ERROR, None, None]
    assert done(work, *cells) == ["inject j", "score s", "evaluate e dpo", "evaluate e ipo"]


def test_a_cell_that_comes_after_its_stage_was_lost_is_lost_too() -> None:
    work = jobs()
    ingest = step(work, DPO)
    work.done(ingest)
    work.failed(step(work, DPO), ERROR)
    assert work.failure(IPO) == ERROR
    assert work.waiting([IPO, NOISY]) == [NOISY]


def test_the_failure_of_a_run_is_that_of_both_its_cells() -> None:
    work = jobs()
    for _ in range(3):
        work.done(step(work, DPO))
    work.failed(step(work, DPO), ERROR)
    assert [work.failure(cell) for cell in (DPO, AGAIN, IPO)] == [ERROR, ERROR, None]


def test_after_a_first_score_that_failed_one_other_fills_the_stores() -> None:
    work, cells = jobs(), (DPO, NOISY, NOISIER)
    work.done(step(work, *cells))
    injects = [step(work, *cells) for _ in range(3)]
    for inject in injects:
        work.done(inject)
    work.failed(step(work, *cells), ERROR)
    assert step(work, *cells).name == "score s noisy"
    assert work.next(work.waiting(cells)) is None


def test_what_nobody_wants_any_more_is_not_begun_and_nobody_waits_for_it() -> None:
    work = jobs()
    work.done(step(work, DPO, NOISY))
    work.done(step(work, DPO, NOISY))
    assert done(work, NOISY) == ["inject j noisy", "score s noisy", "evaluate e noisy"]
