"""Whether a process of this machine, named in a file, is still the one that wrote it."""

import os
import socket
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_PROC = Path("/proc")
_ENDED = "ZX"
_STATE, _STARTED = 0, 19
"""Places in /proc/PID/stat, counted after the program's name."""


class Process(BaseModel):
    """A process, and what tells it from one that got its number later."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: Annotated[int, Field(ge=1)]
    space: str = ""
    """Where the number means something: the machine's boot and the container's process numbers; empty off Linux."""
    started: str = ""
    """In the kernel's ticks."""

    @classmethod
    def own(cls) -> "Process":
        """This one."""
        pid = os.getpid()
        stat = _stat(pid)
        return cls(host=socket.gethostname(), pid=pid, space=_space(), started=stat[_STARTED] if stat else "")

    @property
    def is_gone(self) -> bool:
        """Whether it has surely ended. False if nobody here can tell, as for one of another machine or container."""
        if not self.space or (self.host, self.space) != (socket.gethostname(), _space()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        stat = _stat(self.pid)
        return stat is not None and (stat[_STATE] in _ENDED or stat[_STARTED] != self.started)


def _space() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
