"""Errors that end training for good, whoever meets them: starting the workers again would not help."""

import torch.distributed as dist

from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, GuardError, InputError, PrefoptError, error_as_json, error_from_json

REFUSED = "refused.json"
LASTING = (ConfigError, InputError, GuardError)
"""Errors that come again however often training is started."""


class AgreedError(Exception):
    """Raised by every worker at once: none waits for another, and starting again would not help."""

    def __init__(self, reason: PrefoptError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def leave_refusal(logs: Storage, error: PrefoptError) -> None:
    """Tell the workers of a restart why one of them alone gave up."""
    logs.write_bytes(REFUSED, error_as_json(error).encode())


def check_refusal(logs: Storage) -> None:
    """Raise AgreedError on all workers if one has left its reason since training was launched."""
    found: list[str | None] = [None]
    if dist.get_rank() == 0 and logs.exists(REFUSED):
        found[0] = logs.read_bytes(REFUSED).decode()
    dist.broadcast_object_list(found, src=0)
    if found[0]:
        raise AgreedError(error_from_json(found[0]))
