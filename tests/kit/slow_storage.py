"""A storage on which some writes never end, as an upload that a kill interrupts."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefopt.data.storage import Storage

REACHED = "held"


class SlowStorage(Storage):
    """Holds the writes whose path matches a pattern for ever. Leaves a file `held` in its root when it does."""

    def __init__(self, uri: str, hold: str, mark: str | None = None) -> None:
        super().__init__(uri)
        self._hold, self._mark = hold, mark or self.uri

    def __reduce__(self) -> tuple[Any, ...]:
        return (SlowStorage, (self.uri, self._hold, self._mark))

    def child(self, relative: str) -> "SlowStorage":
        return SlowStorage(super().child(relative).uri, self._hold, self._mark)

    @contextmanager
    def open_output(self, relative: str) -> Iterator[Any]:
        if re.search(self._hold, f"{self.uri}/{relative}"):
            Storage(self._mark).write_bytes(REACHED, b"")
            time.sleep(3600)
        with super().open_output(relative) as stream:
            yield stream
