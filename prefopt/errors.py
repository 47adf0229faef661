"""Errors that a user can act on. The command line prints the message alone and exits with `exit_code`."""

import json


class PrefoptError(Exception):
    """Base of all errors meant for the user: one paragraph that says what, where, and what to do."""

    exit_code = 1


class ConfigError(PrefoptError):
    """The configuration or the command is wrong."""

    exit_code = 2


class InputError(PrefoptError):
    """The input data was refused."""

    exit_code = 3


class GuardError(PrefoptError):
    """A guard stopped training."""

    exit_code = 4


class RewardError(InputError):
    """A reward model gave scores that cannot be used."""


class StorageError(PrefoptError):
    """A file or object could not be written or read: full disk, no permission, no such bucket."""


class WorkerError(PrefoptError):
    """A process that did a part of the work died again and again."""


def error_as_json(error: PrefoptError) -> str:
    """An error as text that another process can raise again."""
    return json.dumps([type(error).__name__, str(error)])


def error_from_json(text: str) -> PrefoptError:
    """The error of `error_as_json`."""
    kind, message = json.loads(text)
    kinds = (ConfigError, GuardError, InputError, RewardError, StorageError, WorkerError)
    known = {cls.__name__: cls for cls in kinds}
    return known.get(kind, PrefoptError)(message)
