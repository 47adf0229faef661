"""An installed package whose reward model notes what it is asked for, and fails as it is told."""

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


class Faulty:
    """The mean of an image's pixels plus the length of its prompt.

    `place` is a directory. `asked` in it gets a line per question: process, image, prompt. `fault.json` in it, if
    there, says what goes wrong: `raise`, `nan` and `kill` name an image (`kill` ends the process); `kill_call` ends the
    process at the call of this number, in one process alone.
    """

    version = "1"

    def __init__(self, place: str) -> None:
        self._place, self._calls = Path(place), 0

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n]."""
        self._calls += 1
        names = [named(image) for image in images]
        lines = [f"{os.getpid()}\t{name}\t{prompt}\n" for name, prompt in zip(names, prompts, strict=True)]
        with (self._place / "asked").open("a") as asked:
            asked.write("".join(lines))
        scores = np.array([np.asarray(image).mean() for image in images]) + [len(prompt) for prompt in prompts]
        fault = self._fault()
        if fault.get("kill") in names or (self._calls == fault.get("kill_call") and self._is_first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.get("raise") in names:
            raise ZeroDivisionError("no colours at all")
        scores[[name == fault.get("nan") for name in names]] = np.nan
        return scores.astype(np.float32)

    def _fault(self) -> dict[str, str | int]:
        with contextlib.suppress(FileNotFoundError):
            fault: dict[str, str | int] = json.loads((self._place / "fault.json").read_text())
            return fault
        return {}

    def _is_first(self) -> bool:
        try:
            (self._place / "killed-by-call").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def named(image: Image.Image) -> str:
    """What an image is called here: a digest of its pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]
