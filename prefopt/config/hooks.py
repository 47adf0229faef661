"""What is run or told when a night of retraining ends. Nothing here enters a key."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, model_validator

from prefopt.config.base import Branch, Positive
from prefopt.config.urls import check_url

_OF_WEBHOOKS = ("retries", "backoff", "token_env")


def shown_webhook(url: str | None) -> str | None:
    """A webhook's URL without what may be secret, which its path often is: the scheme and the host."""
    if url is None:
        return None
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{'/***' if parts.path.strip('/') or parts.query else ''}"


class Hook(Branch):
    """A command, which gets the event as JSON on standard input and its name as PREFOPT_EVENT, or a webhook, to which
    the same JSON is posted."""

    command: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\x00]*$")], ...], Field(min_length=1)] | None = None
    """The program and its arguments. No shell reads them."""
    webhook: Annotated[str | None, Field(repr=False), PlainSerializer(shown_webhook)] = None
    """http:// or https://. Only its host is ever logged. Redirections are not followed."""
    timeout: Positive = 30.0
    """Seconds for the command, which is then killed, or for one request."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """Of a webhook, after a failed connection, a timeout, status 429, or status 5xx."""
    backoff: Annotated[float, Field(ge=0.0)] = 1.0
    """Seconds before a webhook's first retry; doubled for each further one, 30 at most."""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds a webhook's token, sent as `Authorization: Bearer`."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Hook":
        if (self.command is None) == (self.webhook is None):
            raise ValueError("a hook is either command: [program, argument, ...] or webhook: URL")
        idle = [name for name in _OF_WEBHOOKS if getattr(self, name) != type(self).model_fields[name].default]
        if self.command is not None and idle:
            raise ValueError(f"{', '.join(idle)}: for webhooks alone")
        if self.command is not None and not self.command[0]:
            raise ValueError("command names no program")
        return self

    @model_validator(mode="after")
    def _webhook_can_be_asked(self) -> "Hook":
        if self.webhook is None:
            return self
        check_url("webhook", self.webhook)
        if self.token_env is not None and "@" in urlsplit(self.webhook).netloc:
            raise ValueError("a webhook has either a user in its URL or token_env")
        return self


class HooksConfig(Branch):
    """Hooks by what happened. They run one after the other, and none of them changes the outcome."""

    promoted: tuple[Hook, ...] = ()
    """A challenger became the champion."""
    proposed: tuple[Hook, ...] = ()
    """A challenger passed the gate and waits for an approver."""
    rejected: tuple[Hook, ...] = ()
    """A challenger did not pass the gate."""
    held: tuple[Hook, ...] = ()
    """The drift check lets nothing be trained before a person has looked."""
    nothing: tuple[Hook, ...] = ()
    """There was too little new data."""
    failed: tuple[Hook, ...] = ()
    """The night ended with an error."""
