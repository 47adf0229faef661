"""Unit workers that Ray's workers can import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefopt.errors import ConfigError, InputError, PrefoptError, RewardError, StorageError

ERRORS: dict[str, type[PrefoptError]] = {
    error.__name__: error for error in (ConfigError, InputError, RewardError, StorageError)
}


@dataclass(frozen=True)
class Squares:
    """Squares a number; counts its calls in a directory; raises what the payload says, or ends its process."""

    calls: str

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        number, calls = payload["number"], Path(self.calls)
        (calls / f"{number}-{len(list(calls.glob(f'{number}-*')))}").touch()
        if "dies" in payload:
            os.kill(os.getpid(), signal.SIGKILL)
        if "error" in payload:
            raise ERRORS[payload["error"]](f"unit {payload['number']} failed")
        return {"square": payload["number"] ** 2}


class Unloadable:
    """A worker whose model cannot be loaded."""

    def __init__(self) -> None:
        raise InputError("there is no such model")

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError
