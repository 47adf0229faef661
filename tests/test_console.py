import io

from rich.console import Console

from prefopt.console import Reporter, TimeLeft


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, _environ={})


def test_plain_lines_tell_each_tenth_once() -> None:
    place = console(terminal=False)
    times = iter(range(0, 41 * 60, 60))
    with Reporter(place, lambda: float(next(times))) as reporter:
        reporter.begin("train")
        for done in range(41):
            reporter.progress(done, 40, "steps", f"learning, {done} pairs/s" if done else "")
    lines = place.file.getvalue().splitlines()
    assert lines[0] == "train: steps 0/40"
    assert lines[1] == "train: steps 4/40 (0:36:00 left, learning, 4 pairs/s)"
    assert lines[10] == "train: steps 40/40 (learning, 40 pairs/s)"
    assert len(lines) == 11


def test_a_stage_that_knows_its_time_left_tells_it() -> None:
    place = console(terminal=False)
    with Reporter(place, lambda: 0.0) as reporter:
        reporter.begin("lab")
        reporter.progress(1, 2, "cells", seconds_left=90.2)
        reporter.progress(2, 2, "cells", seconds_left=0.0)
    assert place.file.getvalue().splitlines() == ["lab: cells 1/2 (0:01:30 left)", "lab: cells 2/2"]


def test_time_left_is_that_of_slow_steps_and_forgets_what_was_done_before() -> None:
    left = TimeLeft()
    assert left.after(0, 600, 0.0) == ""
    assert left.after(500, 600, 100.0) == ""
    assert left.after(500, 600, 130.0) == ""
    assert left.after(501, 600, 160.0) == "1:39:00 left"
    assert left.after(450, 600, 200.0) == ""
    assert left.after(452, 600, 320.0) == "2:28:00 left"
    assert left.after(600, 600, 9200.0) == ""


def test_a_terminal_has_a_bar_with_time_left_and_how_it_goes() -> None:
    place = console(terminal=True)
    times = iter((0.0, 60.0))
    with Reporter(place, lambda: next(times)) as reporter:
        reporter.begin("train")
        reporter.progress(2, 40, "steps")
        reporter.progress(3, 40, "steps", "collapsed, 4.2 pairs/s")
        reporter._bar.refresh()
        shown = place.file.getvalue()
    assert "train: steps" in shown
    assert "3/40" in shown
    assert "0:37:00 left" in shown
    assert "collapsed, 4.2 pairs/s" in shown
