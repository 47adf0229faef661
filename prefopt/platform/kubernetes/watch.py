"""What becomes of a RayJob: its states, one after the other, however often the connection breaks."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.platform.kubernetes.api import DroppedError, Kube, KubeError
from prefopt.platform.kubernetes.manifest import SUBMISSION_ANNOTATION

ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
SUSPENDED = frozenset({"Suspending", "Suspended"})
OPERATOR_SECONDS = 300.0
"""How long after a deadline the operator may take to enforce it, before it is taken for dead."""
_WATCH_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 10.0

Phase = Literal["suspended", "starting", "running"]


@dataclass(frozen=True)
class State:
    """Of a RayJob at one time. `uid` is empty if there is none."""

    uid: str = ""
    submission: str = ""
    """Which submission made it."""
    deployment: str = ""
    """jobDeploymentStatus: how far the operator is."""
    status: str = ""
    """jobStatus: what Ray says of the command. A job that was stopped is Complete as well."""
    reason: str = ""
    message: str = ""
    suspended: bool = False
    deleting: bool = False

    @classmethod
    def of(cls, found: dict[str, Any] | None) -> "State":
        """Of a RayJob as the API gives it."""
        if found is None:
            return cls()
        status, metadata = found.get("status") or {}, found["metadata"]
        deployment = status.get("jobDeploymentStatus", "")
        waits = found.get("spec", {}).get("suspend", False) and deployment not in ENDED
        return cls(
            uid=metadata["uid"],
            submission=metadata.get("annotations", {}).get(SUBMISSION_ANNOTATION, ""),
            deployment=deployment,
            status=status.get("jobStatus", ""),
            reason=status.get("reason", ""),
            message=status.get("message", ""),
            suspended=waits or deployment in SUSPENDED,
            deleting="deletionTimestamp" in metadata,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.deployment in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether the command did all of its work."""
        return self.deployment == "Complete" and self.status == "SUCCEEDED"

    @property
    def phase(self) -> Phase:
        """What a job that has not ended waits for."""
        if self.suspended:
            return "suspended"
        return "running" if self.deployment == "Running" else "starting"


def states(kube: Kube, name: str, seconds: Callable[[], float]) -> Iterator[State]:
    """The state now, and again at each change and whenever `seconds` (asked anew for each request) have passed.

    The state of a job that is deleted comes last with what was known of it, then an empty one.
    """
    pause = 0.0
    while True:
        found, version = kube.find(name)
        yield (state := State.of(found))
        while version:
            try:
                limit = min(_WATCH_SECONDS, max(1, math.ceil(seconds())))
                for kind, found in kube.changes(name, version, limit):
                    version, pause = found["metadata"]["resourceVersion"], 0.0
                    yield (state := State.of(found))
                    if kind == "DELETED":
                        yield (state := State())
            except DroppedError:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2 or 0.1)
            except KubeError as error:
                if error.status != 410:
                    raise
                version = ""
            yield state


class Patience:
    """How long a job may stay in a phase. The operator keeps the deadlines; this is for when it does not."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._limits: dict[Phase, float] = {
            "suspended": config.suspended_seconds,
            "starting": config.pre_running_seconds + OPERATOR_SECONDS,
            "running": config.deadline_seconds + OPERATOR_SECONDS,
        }
        self._phase: Phase = "starting"
        self._since = time.monotonic()

    def see(self, state: State) -> bool:
        """Take note of a state; whether its phase is new."""
        if state.phase == self._phase:
            return False
        self._phase, self._since = state.phase, time.monotonic()
        return True

    @property
    def limit(self) -> float:
        """Seconds that the phase may take."""
        return self._limits[self._phase]

    def left(self) -> float:
        """Seconds that are left of them."""
        return self._since + self.limit - time.monotonic()
