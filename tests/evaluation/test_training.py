"""The section on training: spans of verdicts, and panels of what was recorded."""

from prefopt.evaluation.training import Span, course, training_panels, verdict_spans
from tests.kit.evaluation import step_lines, verdict_lines


def line(step, verdict, action="go on"):
    return {
        "step": step,
        "first": 1,
        "last": step,
        "verdict": verdict,
        "sentence": f"s{step}",
        "advice": "",
        "action": action,
    }


def test_equal_verdicts_become_one_span():
    lines = [line(10, "warming up"), line(20, "learning"), line(30, "learning"), line(40, "collapsed", "roll_back")]
    assert verdict_spans(lines) == [
        Span(1, 10, "warming up", "s10", "", ()),
        Span(11, 30, "learning", "s30", "", ()),
        Span(31, 40, "collapsed", "s40", "", ("roll back",)),
    ]
    assert verdict_spans([line(10, "saturated", "stop"), line(20, "saturated")]) == [
        Span(1, 20, "saturated", "s20", "", ("stop",))
    ]
    assert verdict_spans([]) == []


def test_a_roll_back_counts_steps_again():
    """The verdict that led back from step 40 to 20 stands between the last line before and the first line after."""
    lines = [
        line(20, "learning"),
        line(40, "collapsed", "roll_back"),
        line(30, "learning"),
        line(40, "learning"),
    ]
    spans = [(span.first, span.last, span.verdict) for span in verdict_spans(lines)]
    assert spans == [(1, 20, "learning"), (21, 40, "collapsed"), (21, 40, "learning")]
    again = [line(20, "collapsed", "roll_back"), line(20, "collapsed", "roll_back"), line(30, "learning")]
    assert [(span.first, span.last) for span in verdict_spans(again)] == [(1, 20), (1, 20), (21, 30)]


def test_the_course_knows_its_end():
    steps = [{"step": 1, "skipped": True}, {"step": 2, "skipped": False}]
    found = course(steps, [line(10, "warming up"), line(20, "learning")])
    assert (found.end.verdict, found.alarm, found.skipped, found.steps, found.window) == ("learning", None, 1, 2, 20)
    assert "learning" in found.chart
    assert course(steps, [line(10, "saturated")]).alarm.verdict == "saturated"
    assert course(steps, [line(10, "learning")]).chart is None
    nothing = course([], [])
    assert (nothing.end, nothing.alarm, nothing.chart) == (None, None, None)


def test_a_figure_that_is_not_there_in_every_step_is_one_curve():
    lines = [{"step": step, **({"staleness": 0.1 * step} if step % 10 == 0 else {})} for step in range(1, 31)]
    (panel,) = training_panels(lines)
    assert panel.title == "Staleness of stored inversions"
    assert panel.chart.count("<use ") >= 3


def test_panels_are_drawn_from_what_was_recorded():
    assert [panel.title for panel in training_panels(step_lines(), verdict_lines(), 0.1)] == [
        "Loss",
        "Implicit accuracy on the batch",
        "Denoising error",
        "Drift from the reference",
        "Settled pairs",
        "Distance from the reference",
        "Gradient norm",
        "Implicit accuracy by timestep",
    ]
    assert training_panels([{"step": 1, "loss": None}]) == []


def test_every_paired_evaluation_is_drawn_at_its_own_step():
    lines = [{"step": step, **({"paired_wins": 0.6} if step % 10 == 0 else {})} for step in range(1, 31)]
    (panel,) = training_panels(lines)
    assert panel.title == "Paired evaluation"
    assert panel.chart.count("<use ") >= 3


def test_parts_of_the_timesteps_are_named():
    (panel,) = [panel for panel in training_panels([], verdict_lines()) if "timestep" in panel.title]
    assert "0 to 50%" in panel.chart
    assert "50 to 100%" not in panel.chart
    assert "steps 1 to 12" in panel.caption
