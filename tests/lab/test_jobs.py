from dataclasses import replace

from prefopt.lab.cells import Cell
from prefopt.lab.jobs import Job, Jobs

DPO = Cell("dpo", "clean", 0.0, 0, None, ("train.objective={name: dpo}",))
IPO = replace(DPO, method="ipo")
NOISY = replace(DPO, noise="flips")
KEYS = {
    DPO: {"ingest": "i", "inject": "j", "score": "s", "train": "t", "evaluate": "e dpo"},
    IPO: {"ingest": "i", "inject": "j", "score": "s", "train": "u", "evaluate": "e ipo"},
    NOISY: {"ingest": "i", "inject": "j noisy", "score": "s noisy", "train": "v", "evaluate": "e noisy"},
}


def jobs(*cells: Cell) -> Jobs:
    made = Jobs(KEYS.__getitem__)
    made.add(cells)
    return made


def all_of(work: Jobs) -> list[Job]:
    """Every job in the order of one worker."""
    found = []
    while job := work.next():
        found.append(job)
        work.done(job)
    return found


def test_what_cells_share_is_done_once_and_first() -> None:
    assert [job.name for job in all_of(jobs(DPO, IPO))] == [
        "ingest i",
        "inject j",
        "score s",
        "evaluate e dpo",
        "evaluate e ipo",
    ]


def test_a_cell_that_is_named_twice_runs_once() -> None:
    work = jobs(DPO)
    work.add([DPO])
    assert len(all_of(work)) == 4


def test_two_workers_never_wait_for_each_others_rows() -> None:
    work = jobs(DPO, NOISY)
    (ingest,) = [work.next()]
    assert ingest
    assert work.next() is None
    work.done(ingest)
    inject, noisy = work.next(), work.next()
    assert inject
    assert noisy
    assert (inject.name, noisy.name) == ("inject j", "inject j noisy")
    work.done(inject)
    work.done(noisy)
    score = work.next()
    assert score
    assert score.name == "score s"
    assert work.next() is None, "the second score finds what the first has stored"
    work.done(score)
    assert {job.name for job in all_of(work)} == {"score s noisy", "evaluate e dpo", "evaluate e noisy"}


def test_what_a_failure_takes_with_it_is_told_and_the_rest_goes_on() -> None:
    work = jobs(NOISY, DPO, IPO)
    ingest = work.next()
    assert ingest
    work.done(ingest)
    inject = work.next()
    assert inject
    assert inject.name == "inject j noisy"
    assert [job.cell for job in work.failed(inject)] == [NOISY]
    assert [job.cell for job in all_of(work) if job.stage is None] == [DPO, IPO]
