"""Writes for onlookers: when one fails it is said once, and training goes on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefopt.errors import StorageError


class Lenient:
    """Lets reads and writes of one kind fail."""

    def __init__(self, what: str) -> None:
        """`what` begins the warning, as "Progress"."""
        self._what, self._said = what, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Do something that storage may refuse."""
        try:
            yield
        except (StorageError, OSError) as error:
            if not self._said:
                logging.getLogger("prefopt.train").warning(
                    "%s could not be read or written, training goes on: %s", self._what, error
                )
            self._said = True
