"""The decision record: what was asked, what the answers were, and what follows."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefopt.config.gate import AuditConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.gate.checks import Check

DECISION = "decision.json"
SCHEMA_VERSION: Literal[1] = 1
MAX_BYTES = 16_000_000
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Audit(_Strict):
    """What the judge says by whom no promotion is chosen."""

    reward: str
    prompt_set: str
    won: int
    """Prompts of this night on which the challenger wins against the champion."""
    lost: int
    total_won: int
    """With those of all promotions since the last one from the base."""
    total_lost: int
    tolerance: float

    @property
    def rate(self) -> float | None:
        """The share of wins over all these nights; None without a decided prompt."""
        total = self.total_won + self.total_lost
        return self.total_won / total if total else None

    @property
    def objects(self) -> bool:
        """Whether a person should look before anybody is promoted."""
        return self.rate is not None and self.rate < 0.5 - self.tolerance


class Decision(_Strict):
    """What a night's gate found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    number: int
    """Of the registry record that it leads to."""
    after: _Digest | None
    """The record that it was made after."""
    champion: _Digest | None
    """The key of the champion's train stage; None where the base stood in its place."""
    challenger: _Digest
    """The key of the challenger's train stage."""
    full: bool
    """Whether the challenger was trained from the base."""
    verdict: Literal["better", "not_better"]
    """`better`: every check that could be judged has passed."""
    checks: list[Check]
    """The first is the win rate."""
    audit: Audit | None
    drift: list[str]
    """What the drift check said, in sentences."""
    keys: dict[str, str]
    """Of the stages that the figures come from."""

    @property
    def failed(self) -> list[Check]:
        """The reasons not to promote."""
        return [check for check in self.checks if check.answer == "failed"]

    @property
    def needs_person(self) -> bool:
        """Whether not even `gate.mode: auto` promotes without one."""
        return self.audit is not None and self.audit.objects


def verdict_of(checks: Sequence[Check]) -> Literal["better", "not_better"]:
    """`better` unless a check failed."""
    return "not_better" if any(check.answer == "failed" for check in checks) else "better"


def audit_of(config: AuditConfig, won: int, lost: int, before: tuple[int, int]) -> Audit:
    """The audit of one night, after what earlier promotions won and lost."""
    return Audit(
        reward=config.reward,
        prompt_set=config.prompt_set,
        won=won,
        lost=lost,
        total_won=before[0] + won,
        total_lost=before[1] + lost,
        tolerance=config.tolerance,
    )


def encoded(decision: Decision) -> bytes:
    """The content of decision.json."""
    return (json.dumps(decision.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def read_decision(storage: Storage, name: str = DECISION) -> Decision:
    """A decision that a gate wrote. InputError, naming the file, if it is missing, damaged or of another version."""
    where = f"{storage.uri}/{name}"
    size = storage.size(name)
    if size is None or size > MAX_BYTES:
        raise InputError(f"{where} is {'not there' if size is None else 'too large'}: run the gate again.")
    try:
        found: Any = json.loads(storage.read_bytes(name))
        if isinstance(found, dict) and found.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise InputError(f"{where} has schema_version {found['schema_version']}: use the prefopt that wrote it.")
        return Decision.model_validate(found)
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{where} is damaged: {first}. Run the gate again.") from None
