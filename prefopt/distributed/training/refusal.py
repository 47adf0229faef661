"""Stopping all training workers at the same place."""

from prefopt.errors import PrefoptError


class AgreedError(Exception):
    """Raised by every worker at once: none waits for another, and starting again would not help."""

    def __init__(self, reason: PrefoptError) -> None:
        super().__init__(str(reason))
        self.reason = reason
