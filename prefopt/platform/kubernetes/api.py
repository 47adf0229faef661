"""RayJobs and their pods by the API of Kubernetes, in one namespace. Every failure is a KubeError in words."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefopt.errors import ConfigError
from prefopt.platform.jobs import JobError
from prefopt.platform.kubernetes.manifest import API_GROUP, API_VERSION, PLURAL, Manifest

ROLE_FILE = "k8s/base"
JOB_LABEL = "batch.kubernetes.io/job-name"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_QUEUES = ("kueue.x-k8s.io", "v1beta1", "localqueues")
RETRIES = 7
"""Of one request: for about a minute, which is how long a control plane may take to come back."""
_BACKOFF_SECONDS = 0.5
_ANSWER_SECONDS = (10, 60)
_SILENT_LOG_SECONDS = (10, 300)
_STREAM_MARGIN_SECONDS = 30

_Object = dict[str, Any]


class KubeError(JobError):
    """The API of Kubernetes did not do what it was asked to."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP; 0 if there was no answer."""


class DroppedError(KubeError):
    """The connection broke while an answer was being read."""


class Kube:
    """RayJobs, their submitters' pods and logs. Requests that meet a server error, too many requests or a broken
    connection are sent again a few times: all of them may be."""

    def __init__(self, namespace: str | None = None) -> None:
        """Connect as the pod that this is, else by the kubeconfig. ConfigError if there is neither, or no client."""
        try:
            from kubernetes import client, watch
        except ImportError:
            raise ConfigError(
                "cluster.submit.kind kubernetes needs the client of Kubernetes: pip install 'prefopt[kubeflow]'."
            ) from None
        configuration = client.Configuration()
        self.own_namespace, offered = _credentials(configuration)
        self.namespace = namespace or offered
        self._host = configuration.host
        configuration.retries = _retries()
        api = client.ApiClient(configuration)
        self._jobs, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._authorization = client.AuthorizationV1Api(api)
        self._client, self._watch = client, watch
        self._of_jobs = (API_GROUP, API_VERSION, self.namespace, PLURAL)

    def create(self, manifest: Manifest) -> bool:
        """Create a RayJob; False if one of this name is there."""
        try:
            with self._explained("create", PLURAL):
                self._jobs.create_namespaced_custom_object(
                    *self._of_jobs, manifest, field_validation="Strict", _request_timeout=_ANSWER_SECONDS
                )
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    def find(self, name: str) -> tuple[_Object | None, str]:
        """The RayJob, if it is there, and the version from which to watch."""
        with self._explained("list", PLURAL):
            found: _Object = self._jobs.list_namespaced_custom_object(
                *self._of_jobs, field_selector=f"metadata.name={name}", _request_timeout=_ANSWER_SECONDS
            )
        return next(iter(found["items"]), None), found["metadata"]["resourceVersion"]

    def changes(self, name: str, version: str, seconds: int) -> Iterator[tuple[str, _Object]]:
        """Kind of change and the RayJob after it, for so many seconds. KubeError 410: the version is too old."""
        with self._explained("watch", PLURAL):
            events = self._watch.Watch().stream(
                self._jobs.list_namespaced_custom_object,
                *self._of_jobs,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=seconds,
                _request_timeout=(_ANSWER_SECONDS[0], seconds + _STREAM_MARGIN_SECONDS),
            )
            for event in events:
                yield event["type"], event["raw_object"]

    def delete(self, name: str, uid: str | None = None) -> None:
        """Ask for the deletion of a RayJob and all that belongs to it; of that uid alone, if one is given. Nothing
        happens if it is not there."""
        options = self._client.V1DeleteOptions(
            propagation_policy="Foreground",
            preconditions=self._client.V1Preconditions(uid=uid) if uid else None,
        )
        try:
            with self._explained("delete", PLURAL):
                self._jobs.delete_namespaced_custom_object(
                    *self._of_jobs, name, body=options, _request_timeout=_ANSWER_SECONDS
                )
        except KubeError as error:
            if error.status not in (404, 409):
                raise

    def may(self, verb: str, resource: str) -> bool:
        """Whether this account may do this with RayJobs, or with a resource of the core, in this namespace."""
        name, _, part = resource.partition("/")
        asked = self._client.V1ResourceAttributes(
            namespace=self.namespace,
            verb=verb,
            group=API_GROUP if name == PLURAL else "",
            resource=name,
            subresource=part or None,
        )
        review = self._client.V1SelfSubjectAccessReview(
            spec=self._client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
        )
        with self._explained("create", "selfsubjectaccessreviews"):
            answer = self._authorization.create_self_subject_access_review(review, _request_timeout=_ANSWER_SECONDS)
        return bool(answer.status.allowed)

    def queue(self, name: str) -> _Object | None:
        """Kueue's LocalQueue of this name, if it is there."""
        group, version, plural = _QUEUES
        try:
            with self._explained("get", plural):
                found: _Object = self._jobs.get_namespaced_custom_object(
                    group, version, self.namespace, plural, name, _request_timeout=_ANSWER_SECONDS
                )
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        return found

    def submitter_pod(self, name: str) -> _Object | None:
        """The newest pod of the Kubernetes Job by which a RayJob sends its command: name and phase."""
        with self._explained("list", "pods"):
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{JOB_LABEL}={name}", _request_timeout=_ANSWER_SECONDS
            ).items
        if not pods:
            return None
        newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
        return {"name": newest.metadata.name, "phase": newest.status.phase}

    def log(self, pod: str, container: str, since_seconds: int | None) -> Iterator[str]:
        """Lines of a container's log, each with its time in front, until the container ends."""
        since = {} if since_seconds is None else {"since_seconds": since_seconds}
        with self._explained("get", "pods/log"):
            yield from self._watch.Watch().stream(
                self._core.read_namespaced_pod_log,
                pod,
                self.namespace,
                container=container,
                timestamps=True,
                _request_timeout=_SILENT_LOG_SECONDS,
                **since,
            )

    @contextmanager
    def _explained(self, verb: str, resource: str) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError, MaxRetryError

        try:
            yield
        except ApiException as error:
            raise KubeError(self._words(verb, resource, error.status, _said(error)), error.status or 0) from None
        except MaxRetryError as error:
            raise KubeError(
                f"Cannot reach Kubernetes at {self._host} to {verb} {resource}: {error.reason}. Is it the right"
                " cluster, and does the network allow it?"
            ) from None
        except HTTPError as error:
            raise DroppedError(f"The connection to Kubernetes at {self._host} broke: {error}") from None

    def _words(self, verb: str, resource: str, status: int | None, said: str) -> str:
        place = f"namespace {self.namespace}"
        if status == 401:
            return (
                f"Kubernetes at {self._host} does not know who asks to {verb} {resource} (401): the token is missing,"
                " wrong or too old. Renew the kubeconfig, or look at the pod's service account."
            )
        if status == 403 and ("cannot" in said or not said):
            return (
                f"Not allowed to {verb} {resource} in {place} (403). The service account needs this right: apply the"
                f" Role in {ROLE_FILE}. Kubernetes says: {said}"
            )
        if status == 404 and verb in ("create", "list", "watch") and resource == PLURAL:
            return (
                f"There is nowhere to {verb} {resource} in {place} (404): the namespace is missing, or the KubeRay"
                f" operator with its RayJob is not installed. Kubernetes says: {said}"
            )
        return f"Kubernetes at {self._host} did not {verb} {resource} in {place} ({status or 'no answer'}): {said}"


def _credentials(configuration: Any) -> tuple[str | None, str]:
    """Fill in who asks whom; the namespace of this pod, if it is one, and the one to use by default."""
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    own = os.environ.get("POD_NAMESPACE")
    try:
        config.load_incluster_config(client_configuration=configuration)
        own = own or _SERVICE_ACCOUNT.read_text().strip()
        return own, own
    except ConfigException:
        pass
    file = os.environ.get("KUBECONFIG")
    try:
        config.load_kube_config(config_file=file, client_configuration=configuration)
        _, active = config.list_kube_config_contexts(config_file=file)
    except ConfigException as error:
        raise ConfigError(
            f"No way to Kubernetes: this is no pod with a service account, and the kubeconfig says: {error}"
            " Set KUBECONFIG."
        ) from None
    return own, active["context"].get("namespace", "default")


def _retries() -> Any:
    from urllib3 import Retry

    return Retry(
        total=RETRIES,
        backoff_factor=_BACKOFF_SECONDS,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
    )


def _said(error: Any) -> str:
    """The message of a Status object, or the reason."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        message = json.loads(body or "{}").get("message")
    except (ValueError, AttributeError):
        message = None
    return " ".join(str(message or error.reason or "").split())
