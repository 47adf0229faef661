"""What a cell of the laboratory gave: one JSON object, of which a grid is a file of lines."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from prefopt.errors import InputError

BINS = 20
"""Of u, equally wide over [0, 1]."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Detected(_Record):
    """How u is distributed over the training labels, and how it ranks those that should be doubted.

    `flipped`: labels that noise injection turned over. `minority`: labels, flipped ones among them, that contradict
    the true preference of the majority, where the laboratory knows it.
    """

    labels: list[int]
    """[BINS] of all labels that have a u."""
    flipped: list[int]
    minority: list[int] | None
    auroc_flipped: float | None
    """P(u of a flipped label > u of one that is not), ties half; None where nothing or everything is flipped."""
    auroc_minority: float | None


class Cost(_Record):
    """What a cell took, by the work that its config plans and by the clock.

    A stage's forwards are the FLOPs of what it asks of the UNet over those of one forward of one image.
    """

    score_forwards: float
    """Inversions and stored reference errors; no policy snapshots of the panel."""
    train_forwards: float
    """All models that a step asks, and visits inverted again; no images that are drawn on the way. The policy's forward
    with its backward counts three in full fine-tuning, about two with LoRA, whose backward forms no gradients of frozen
    weights, and one more with gradient checkpointing."""
    score_seconds: float
    """By the clock of the machine that made the score stage, whose stores other cells may have filled."""
    train_seconds: float
    """By the clock, of the last sitting where training was resumed, beside what else the machine did."""

    @property
    def forwards(self) -> float:
        """Of score and training."""
        return self.score_forwards + self.train_forwards


class Outcome(_Record):
    """A finished cell."""

    key: str
    """Of its evaluate stage: everything its figures depend on, but for what `truth` says of labels."""
    method: str
    noise: str
    rate: float | None
    """Share of labels that the noise flips at random; None for another kind of noise."""
    seed: int
    candidate: int | None
    """Which setting a tuning cell tries, counted from 0; None for a cell of the grid."""
    settings: list[str]
    """KEY=VALUE that make the laboratory's run this cell."""
    cpu: str
    """The instruction set that decides the last bits."""
    accuracy: float | None
    """Share of (held-out pair, draw) on whose unflipped winner the policy improved on the base; untrained: 1/2."""
    accuracy_by_group: dict[str, float]
    """The same by annotator group, on its own votes."""
    win_rates: dict[str, float]
    """Over the base by reward, ties half, the headline first."""
    scores: dict[str, float]
    """Mean over the tuned model's images minus that over the base's, by the same rewards."""
    distance: float | None
    """Of the tuned model's images from the base's."""
    diversity: float | None
    """Within prompts, as a change from the base's."""
    flipped: int
    """Training labels that noise injection turned over."""
    truth: str | None = None
    """The reward that knows what the majority truly prefers; None where nothing does."""
    minority: int | None
    """Training labels that contradict the majority's true preference; None where that is not known."""
    labels: int
    """Training labels that are no ties."""
    detected: dict[str, Detected]
    """By source of u, as prefopt.stages.minority names them."""
    cost: Cost

    @property
    def win_rate(self) -> float:
        """On the headline reward."""
        return next(iter(self.win_rates.values()))

    @property
    def score(self) -> float:
        """On the headline reward, over the base."""
        return next(iter(self.scores.values()))


def shared_settings(outcomes: Iterable[Outcome]) -> list[str]:
    """Settings that all of these have, in the order of the first one's; none of no outcome."""
    first, *others = [one.settings for one in outcomes] or [[]]
    return [one for one in first if all(one in other for other in others)]


def read_outcomes(data: bytes, where: str) -> list[Outcome]:
    """Every line of a file; `where` names it in errors. InputError for a line that is no outcome, or no UTF-8."""
    found = []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Outcome.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            raise InputError(
                f"{where}, line {number} is no outcome of a cell ({'.'.join(map(str, problem['loc'])) or 'line'}:"
                f" {problem['msg']}). Remove the line: its cell is run again."
            ) from None
    return found


def as_lines(outcomes: Iterable[Outcome]) -> str:
    """The text of a file, sorted, so that the order in which cells ended leaves no trace."""
    ordered = sorted(outcomes, key=lambda one: (one.candidate is None, one.method, one.noise, one.seed, one.key))
    return "".join(f"{one.model_dump_json()}\n" for one in ordered)
