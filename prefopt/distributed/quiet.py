"""How much the libraries that stages work with say on their own."""

import os

QUIET_ENVIRONMENT = {"DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}


def quieten() -> None:
    """Let them say errors alone, unless the environment asks for more. To be called before they are imported."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
