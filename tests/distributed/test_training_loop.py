"""The loop of a worker with made-up figures: what is recorded when, and what a guard does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefopt.distributed.training import paired, recorder
from prefopt.distributed.training.paired import PairedDrawing, share_of_wins
from prefopt.distributed.training.refusal import AgreedError
from prefopt.errors import GuardError
from tests.kit.health import Values
from tests.kit.loop import Loop, calm, collapsing

PAIRED = {"every": 5, "prompts": 8, "reward": "world/style"}


pytestmark = pytest.mark.usefixtures("process_group")


def better(steps: int) -> list[float]:
    """Each image better than that of the start."""
    return [float(steps > 0)] * 8


class _Told:
    def __init__(self) -> None:
        self.figures: dict[int, dict[str, float]] = {}

    def log(self, step: int, figures: dict[str, float]) -> None:
        self.figures.setdefault(step, {}).update(figures)

    def save(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(("steps", "measured"), [(5, [5]), (23, [5, 10, 15, 20])])
def test_each_paired_evaluation_is_recorded_when_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, measured: list[int]
) -> None:
    """Also the last one, and on to the trackers."""
    told: Any = _Told()
    monkeypatch.setattr(recorder, "open_trackers", lambda *_: told)
    loop = Loop(tmp_path, scores=better, steps=steps, health={"evaluation": PAIRED})
    loop.run()
    lines = {line["step"]: line for line in loop.steps()}
    assert [step for step, line in lines.items() if "paired_wins" in line] == measured
    assert [step for step, line in told.figures.items() if "paired_wins" in line] == measured
    assert lines[5]["paired_wins"] == told.figures[5]["paired_wins"] == 1.0
    assert lines[5]["paired_wins_low"] == pytest.approx(0.6756, abs=1e-4)
    assert lines[5]["paired_wins_high"] == 1.0


def test_a_step_is_judged_after_its_paired_evaluation(tmp_path: Path) -> None:
    loop = Loop(tmp_path, scores=better, steps=15, health={"evaluation": PAIRED})
    loop.run()
    assert [(line["step"], line["evaluation"]["step"]) for line in loop.verdicts()] == [(10, 10), (15, 15)]


def actions(loop: Loop) -> list[tuple[int, str]]:
    return [(line["step"], line["action"]) for line in loop.verdicts() if line["action"] != "go on"]


@pytest.mark.parametrize(("every", "keep", "back"), [(2, 2, 28), (2, 1, 28), (7, 1, 28), (50, 2, 0)])
def test_a_roll_back_finds_a_checkpoint_that_a_good_verdict_vouches_for(
    tmp_path: Path, every: int, keep: int, back: int
) -> None:
    """The verdict at step 30 is the last good one: its figures end with the weights after 29 steps."""
    loop = Loop(
        tmp_path,
        collapsing(31, least_rate=0.5),
        steps=60,
        checkpoint_every=every,
        keep_checkpoints=keep,
        guard={"action": "roll_back", "budget": None},
    )
    went_back: list[int] = []
    load = loop.engine.load

    def loaded(directory: Path, *, universal: bool = False) -> None:
        load(directory, universal=universal)
        went_back.append(loop.engine.steps)

    loop.engine.load = loaded  # type: ignore[method-assign]
    loop.run()
    assert actions(loop) == [(40, "roll_back")]
    assert went_back == [back]
    assert [line["step"] for line in loop.steps()] == list(range(1, 61))
    newest = [60] if keep == 1 else [60 - 60 % every - every * (60 % every == 0), 60]
    vouched = max(step for step in range(0, 60, every) if step <= 59)
    assert loop.checkpoints() == sorted({*newest, vouched})


def test_without_a_roll_back_the_last_checkpoints_alone_are_kept(tmp_path: Path) -> None:
    loop = Loop(tmp_path, steps=30, checkpoint_every=2, keep_checkpoints=2, guard={"action": "lower_rate"})
    loop.run()
    assert loop.checkpoints() == [28, 30]


def test_where_no_checkpoint_is_whole_the_reason_is_said(tmp_path: Path) -> None:
    loop = Loop(tmp_path, collapsing(11), steps=60, checkpoint_every=50, guard={"action": "roll_back", "budget": None})
    finish = loop.training._tell

    def damaged(done: int, *rest: Any) -> None:
        finish(done, *rest)
        for file in loop.work.files("checkpoints"):
            if file.endswith("state.json"):
                loop.work.write_bytes(file, b"")

    loop.training._tell = damaged  # type: ignore[method-assign]
    with pytest.raises(AgreedError) as raised:
        loop.run()
    assert isinstance(raised.value.reason, GuardError)
    said = str(raised.value)
    assert "collapsed" in said
    assert "up to step 9, but none is whole. The checkpoint after 0 steps is passed over: engine/state.json has" in said
    assert "lower train.checkpoint_every" not in said


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (
            "roll_back",
            "Step 40: the guard rolled back to the checkpoint after 28 steps; the learning rate is 0.5 times",
        ),
        ("lower_rate", "Step 40: the guard goes on; the learning rate is 0.5 times what the config says from here on."),
    ],
)
def test_what_the_guard_does_is_told(tmp_path: Path, action: str, told: str) -> None:
    guard = {"action": action, "budget": None}
    loop = Loop(tmp_path, collapsing(31, least_rate=0.5), steps=50, checkpoint_every=7, guard=guard)
    loop.run()
    assert sum(note.startswith(told) for note in loop.notes()) == 1
    assert sum("Step 40: collapsed" in note for note in loop.notes()) == 1


def test_figures_that_are_not_finite_are_the_guards_business(tmp_path: Path) -> None:
    def figures(step: int, lr: float) -> Values:
        values = calm(step)
        if step == 33 and lr > 0.5:
            values["reference_w"][0] = np.nan
        return values

    loop = Loop(tmp_path, figures, steps=50, checkpoint_every=10, guard={"action": "roll_back"})
    loop.run()
    (line,) = [line for line in loop.verdicts() if line["action"] != "go on"]
    assert (line["step"], line["verdict"], line["broken"], line["action"]) == (40, "collapsed", 1, "roll_back")


def test_without_a_guard_a_broken_step_is_told_alone(tmp_path: Path) -> None:
    def figures(step: int, lr: float) -> Values:
        return calm(step) | ({"loss": np.full(32, np.inf)} if step == 13 else {})

    loop = Loop(tmp_path, figures, steps=20)
    loop.run()
    assert [line["verdict"] for line in loop.verdicts()][-1] == "collapsed"
    assert loop.steps()[12]["loss"] is None


def test_images_that_are_not_finite_are_a_collapse(tmp_path: Path) -> None:
    """Not an error of one worker that restarts training: the guard goes back, and with a lower rate all is well."""
    broken = iter([[1.0, math.nan, *[1.0] * 6]])

    def scores(steps: int) -> list[float]:
        return next(broken, better(steps)) if steps == 25 else better(steps)

    health = {"evaluation": {**PAIRED, "every": 25}}
    loop = Loop(tmp_path, scores=scores, steps=50, checkpoint_every=10, health=health, guard={"action": "roll_back"})
    loop.run()
    (line,) = [line for line in loop.verdicts() if line["action"] != "go on"]
    assert (line["step"], line["verdict"], line["evaluation"]["broken"]) == (30, "collapsed", 1)
    assert "1 of the 8 images at step 25 are no images" in line["sentence"]
    assert line["evaluation"]["value"] == 0.875
    assert loop.verdicts()[-1]["verdict"] == "learning"


def test_a_start_that_draws_no_images_ends_training(tmp_path: Path) -> None:
    loop = Loop(tmp_path, scores=lambda steps: [math.nan] * 8, steps=50, health={"evaluation": PAIRED})
    with pytest.raises(AgreedError, match="that training starts from draws images that are not finite"):
        loop.run()


def test_a_broken_batch_of_images_has_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other batches keep theirs; a worker that draws a broken one does not give up alone."""

    class Generator:
        def images(self, tasks: list[tuple[str, int]]) -> list[str]:
            if tasks[0][0] == "broken":
                raise GuardError("The model draws images that are not finite numbers.")
            return [prompt for prompt, _ in tasks]

    drawing: Any = object.__new__(PairedDrawing)
    drawing._generator, drawing._reward = Generator(), None
    drawing._batches = [[("whole", 0), ("whole", 0)], [("broken", 0)]]
    monkeypatch.setattr(paired, "checked_scores", lambda reward, images, *_: [2.0] * len(images))
    assert drawing.scores()[:2] == [2.0, 2.0]
    assert math.isnan(drawing.scores()[2])
    assert share_of_wins(drawing.scores(), [1.0, 1.0, 1.0]).value == pytest.approx(2 / 3)


def test_timesteps_are_parted_by_the_schedules_own_number(tmp_path: Path) -> None:
    def latest(step: int, lr: float) -> Values:
        return calm(step) | {"timestep": np.full(32, 99.0)}

    loop = Loop(tmp_path, latest, num_timesteps=100, steps=10)
    loop.run()
    assert loop.steps()[0]["pairs_by_timestep"] == [0, 0, 0, 0, 32]
