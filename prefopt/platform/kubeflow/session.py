"""Calls of the KFP API: one layer of retries, errors in words, and no token in them. Imports kfp."""

import json
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from prefopt.config.rewards import shown_url
from prefopt.errors import ConfigError, PrefoptError

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two bytes of an answer."""
PAUSES = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth try."""
_SHOWN = 300
_UNAUTHORISED, _FORBIDDEN, _MISSING, _CONFLICT, _TOO_MANY = 401, 403, 404, 409, 429
_TOKEN_HELP = (
    "give one with --token-file or the variable KF_PIPELINES_TOKEN, and renew it if it has expired (kubectl create"
    " token SERVICE_ACCOUNT --namespace NAMESPACE --audience pipelines.kubeflow.org)"
)


class KfpError(PrefoptError):
    """A call failed. `status` is the answer's, or None if there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """The same call may succeed later; and it may have been carried out although no good answer came."""
        return self.status is None or self.status == _TOO_MANY or self.status >= 500


class _Client(kfp.Client):  # type: ignore[misc]
    """kfp's client without retries of its own, so that there is one layer of them."""

    def _load_config(self, *given: Any, **named: Any) -> Any:
        config = super()._load_config(*given, **named)
        config.retries = False
        return config

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """Asked once, in time."""
        return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT)

    def greet(self) -> bool:
        """Ask whether the host serves several users. ValueError unless what answers is KFP."""
        several = self.get_kfp_healthz().multi_user
        if not isinstance(json.loads(self._healthz_api.api_client.last_response.data), dict):
            raise ValueError("no object")
        return bool(several)

    def page(self, kind: str, identity: str) -> str:
        """Where the UI shows it."""
        return f"{self._get_url_prefix()}/#/{kind}/details/{identity}"


def _connected(host: str, namespace: str | None, token: str | None, token_file: str | None) -> _Client:
    credentials = ServiceAccountTokenVolumeCredentials(token_file) if token_file else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says, every time, that it works with KFP 2 alone
        return _Client(host=host, namespace=namespace or "kubeflow", existing_token=token, credentials=credentials)


class Session:
    """A host, and how it is asked. The services of `kfp_server_api` are attributes of `client`."""

    def __init__(
        self,
        host: str,
        namespace: str | None = None,
        token: str | None = None,
        token_file: str | None = None,
        pauses: Sequence[float] | None = None,
    ) -> None:
        """`token_file` is read anew before every call, because tokens in pods are renewed there."""
        self._shown, self._file = shown_url(host), token_file
        self._secret = token_in(token_file) if token_file else token
        self._pauses = PAUSES if pauses is None else pauses
        self.client = self._again("the first contact", lambda: _connected(host, namespace, token, token_file))
        several = self._several()
        self.namespace: str | None = namespace or self.client.get_user_namespace() or None
        if several and self.namespace is None:
            raise ConfigError(f"{self._shown} serves several users: say whose with --namespace.")

    def ask(self, what: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """The answer to a call of the API that may be made again. Raises KfpError after the last try."""
        return self._again(what, lambda: call(*given, _request_timeout=TIMEOUT, **named))

    def find_or_create(
        self, what: str, find: Callable[[], Any], create: Callable[..., Any], *given: Any, **named: Any
    ) -> tuple[Any, bool]:
        """What `find` finds, else what a call of the API creates; and whether it was created now.

        A creation is never repeated without a look whether the one before succeeded although its answer was lost.
        """
        tried = False
        for pause in (*self._pauses, None):
            if (found := find()) is not None:
                return found, tried
            try:
                return self._once(what, lambda: create(*given, _request_timeout=TIMEOUT, **named)), True
            except KfpError as error:
                last = error
                if error.status == _CONFLICT:
                    break
                if not error.passing:
                    raise
            tried = True
            if pause is not None:
                time.sleep(pause)
        if (found := find()) is not None:
            return found, tried
        raise last

    def all(self, what: str, call: Callable[..., Any], field: str, name: str, **named: Any) -> list[Any]:
        """Every object of that display name; `field` holds them in an answer."""
        predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
        named |= {"filter": json.dumps({"predicates": [predicate]}), "page_size": 100}
        found: list[Any] = []
        token = None
        while True:
            answer = self.ask(what, call, **named, **({"page_token": token} if token else {}))
            found += [one for one in getattr(answer, field) or [] if one.display_name == name]
            if not (token := answer.next_page_token):
                return found

    def _again(self, what: str, call: Callable[[], Any]) -> Any:
        for pause in self._pauses:
            try:
                return self._once(what, call)
            except KfpError as error:
                if not error.passing:
                    raise
            time.sleep(pause)
        return self._once(what, call)

    def _once(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except kfp_server_api.ApiException as error:
            raise self._refused(what, error) from None
        except urllib3.exceptions.TimeoutError as error:
            if isinstance(error, urllib3.exceptions.NewConnectionError):
                raise self._unreachable(what, error) from None
            raise KfpError(f"{self._shown} gave no answer in time ({what}). Try again when it is less busy.") from None
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(what, error) from None
        except OSError as error:
            if error.filename != self._file or self._file is None:
                raise
            raise ConfigError(f"Cannot read the token in {self._file}: {error.strerror}.") from None

    def _several(self) -> bool:
        try:
            return bool(self._again("the first contact", self.client.greet))
        except ValueError:
            raise KfpError(
                f"What answers at {self._shown} is not Kubeflow Pipelines, perhaps a login page: check --host, and"
                f" {_TOKEN_HELP}.",
                status=0,
            ) from None

    def _unreachable(self, what: str, error: Exception) -> KfpError:
        return KfpError(
            f"Cannot reach Kubeflow Pipelines at {self._shown} ({what}): {self._clean(str(error))}. Check --host, and"
            " that VPN or port-forward is up: kubectl -n kubeflow port-forward svc/ml-pipeline 8888:8888."
        )

    def _refused(self, what: str, error: kfp_server_api.ApiException) -> KfpError:
        status, said = int(error.status or 0), self._detail(error)
        if status == 0:
            return KfpError(f"Cannot reach Kubeflow Pipelines at {self._shown} ({what}): {said}. Check --host.", status)
        answered = f"{self._shown} answered {status} ({what}){f': {said}' if said else ''}."
        if status == _UNAUTHORISED or 300 <= status < 400:
            cause = "It does not accept the token" if self._secret else "It wants a token"
            return KfpError(f"{answered} {cause}: {_TOKEN_HELP}.", status)
        if status == _FORBIDDEN:
            return KfpError(
                f"{answered} The token's account may not do this: check --namespace, or ask for a role.", status
            )
        if status == _MISSING:
            return KfpError(
                f"{answered} It is gone, or this is not the API of Kubeflow Pipelines: check --host.", status
            )
        if status >= 500 or status == _TOO_MANY:
            return KfpError(f"{answered} It did so again and again: see the log of ml-pipeline, or try later.", status)
        return KfpError(answered, status)

    def _detail(self, error: kfp_server_api.ApiException) -> str:
        try:
            body = json.loads(error.body or "")
        except ValueError:
            return self._clean(str(error.reason or ""))
        told = body.get("error_message") or body.get("message") or body.get("error") if isinstance(body, dict) else body
        return self._clean(str(told or error.reason or ""))

    def _clean(self, said: str) -> str:
        """Others' words on one line, without a token that they may repeat."""
        said = re.sub(r"(?i)bearer\s+[^\s\"']+", "Bearer ***", said)
        for secret in filter(None, (self._secret, self._renewed())):
            said = said.replace(secret, "***")
        return " ".join(said.split())[:_SHOWN].rstrip(".")

    def _renewed(self) -> str | None:
        """The token that the file holds by now."""
        if self._file is None:
            return None
        try:
            return token_in(self._file)
        except ConfigError:
            return None


def token_in(path: str) -> str:
    """The token that a file holds. ConfigError if it cannot be read, or holds no token."""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except OSError as error:
        raise ConfigError(f"Cannot read the token in {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        token = ""
    return checked_token(token, path)


def checked_token(token: str, where: str) -> str:
    """ConfigError, which does not show it, unless it can stand in a header."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where} holds no token: it must be one word of printable ASCII.")
    return token
