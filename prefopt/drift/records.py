"""What the drift check writes: drift.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefopt.config.retrain import Digest
from prefopt.data.storage import Storage
from prefopt.errors import InputError

DRIFT = "drift.json"
SCHEMA_VERSION: Literal[1] = 1
SignalName = Literal["prompts", "images", "annotators", "agreement", "minority"]
Verdict = Literal["ok", "warn", "hold", "not_measured"]
Action = Literal["train", "hold"]
_Probability = Annotated[float, Field(ge=0.0, le=1.0)]
_Number = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Signal(_Record):
    """One comparison of the two sides."""

    name: SignalName
    verdict: Verdict
    value: float | None
    """What the bounds judge; null where nothing was measured, as are p and corrected_p."""
    p: _Probability | None
    """Of the permutation test: how often chance alone gives as much."""
    corrected_p: _Probability | None
    """After Holm's correction over all measured signals."""
    warn: float
    hold: float | None
    known: _Number
    new: _Number
    """How many prompts, images, votes or labels of each side were compared."""
    figures: dict[str, float] = {}
    """What the value is made from."""
    sentence: str


class Counts(_Record):
    """Pairs of the training split."""

    new: _Number
    """With a vote that the champion has not seen."""
    known: _Number
    compared_new: _Number
    compared_known: _Number


class Drift(_Record):
    """All signals, and what they mean for the night."""

    schema_version: Literal[1] = SCHEMA_VERSION
    known: Digest | None
    """The key of the ingest stage whose votes the champion has seen; null without a champion."""
    counts: Counts
    signals: list[Signal]
    """Empty without a champion."""
    action: Action
    sentences: list[str]
    """The action and its reasons, in words."""

    @model_validator(mode="after")
    def _a_signal_that_holds_holds_the_night(self) -> "Drift":
        if (self.action == "hold") != any(signal.verdict == "hold" for signal in self.signals):
            raise ValueError(f"action {self.action} does not follow from the signals")
        return self

    @property
    def warnings(self) -> list[Signal]:
        """Signals beyond a bound."""
        return [signal for signal in self.signals if signal.verdict in ("warn", "hold")]

    def encoded(self) -> bytes:
        """The file's content: the same record gives the same bytes."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def read_drift(storage: Storage, name: str = DRIFT) -> Drift:
    """What a drift check found. InputError if it is of another version, or damaged; StorageError if it is not there."""
    data = storage.read_bytes(name)
    try:
        return Drift.model_validate_json(data)
    except ValidationError as error:
        raise InputError(
            f"The drift check {storage.uri}/{name} {_problem(error)}: run the drift stage again."
        ) from None


def _problem(error: ValidationError) -> str:
    found: dict[str, Any] = {".".join(map(str, detail["loc"])): detail for detail in error.errors()}
    if "schema_version" in found:
        version = found["schema_version"]["input"]
        return f"has schema_version {version}, and this prefopt reads {SCHEMA_VERSION}"
    where, detail = next(iter(found.items()))
    return f"is damaged ({where or 'as a whole'}: {detail['msg']})"
