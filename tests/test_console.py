import io

from rich.console import Console

from prefopt.console import Reporter


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, _environ={})


def test_plain_lines_tell_each_tenth_once() -> None:
    place = console(terminal=False)
    with Reporter(place) as reporter:
        reporter.begin("train")
        for done in range(41):
            reporter.progress(done, 40, "steps", f"learning, {done} pairs/s" if done else "")
    lines = place.file.getvalue().splitlines()
    assert lines[0] == "train: steps 0/40"
    assert lines[1] == "train: steps 4/40 (learning, 4 pairs/s)"
    assert len(lines) == 11


def test_a_terminal_has_a_bar_with_time_left_and_how_it_goes() -> None:
    place = console(terminal=True)
    with Reporter(place) as reporter:
        reporter.begin("train")
        reporter.progress(3, 40, "steps", "collapsed, 4.2 pairs/s")
        reporter._bar.refresh()
        shown = place.file.getvalue()
    assert "train: steps" in shown
    assert "3/40" in shown
    assert "left" in shown
    assert "collapsed, 4.2 pairs/s" in shown
