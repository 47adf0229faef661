"""An API of Kubernetes on loopback: RayJobs with versions, watches and finalizers, pods, and logs that grow."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

NAMESPACE = "team"
TOKEN = "token-of-the-tests"
JOBS = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs"
QUEUES = f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/localqueues"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

_Object = dict[str, Any]
_CUT = object()


@dataclass(frozen=True)
class Asked:
    """A request, as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any = None


@dataclass
class Log:
    """Of a submitter's pod. A line is `(seconds after the beginning, text)`."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    ended: bool = False


class KubeApi:
    """State of the cluster, to be changed by tests while requests are served."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.jobs: dict[str, _Object] = {}
        self.logs: dict[str, Log] = {}
        self.refused: dict[tuple[str, str], tuple[int, str]] = {}
        """What is answered to (method, path) in place of the truth."""
        self.failing: list[tuple[str, str, int]] = []
        """Requests (method, path) that get this status; each entry is used up by one."""
        self.lost_answers = 0
        """So many jobs are created without an answer: the connection breaks."""
        self.finalizers = False
        self.denied: set[str] = set()
        """Rights that access reviews deny, such as `delete ray.io/rayjobs` or `get /pods/log`."""
        self.queues: dict[str, _Object] = {}
        """Kueue's LocalQueues."""
        self.on_create: Callable[[_Object], None] = lambda job: None
        self._owned: dict[str, str] = {}
        self._version = 100
        self._oldest = 0
        self._changed = threading.Condition()
        self._events: list[tuple[int, str, _Object]] = []
        self._watches: list[queue.Queue[Any]] = []

    # What tests do.

    def count(self, method: str, path: str, **query: str) -> int:
        """Requests of this kind so far."""
        return sum(
            asked.method == method and asked.path == path and query.items() <= asked.query.items()
            for asked in list(self.asked)
        )

    def watches(self) -> int:
        """Watches of RayJobs that are open now."""
        return len(self._watches)

    def wait(self, found: Callable[[], object], seconds: float = 120) -> None:
        """Until something holds; looked at again whenever anything changes or is asked."""
        with self._changed:
            assert self._changed.wait_for(found, seconds), "it did not come about"

    def put(self, job: _Object) -> None:
        """A RayJob that is there from the beginning, or replaces one."""
        with self._changed:
            kind = "MODIFIED" if job["metadata"]["name"] in self.jobs else "ADDED"
            job["metadata"].setdefault("uid", f"uid-{self._version}")
            self._store(kind, job)

    def status(self, name: str, suspend: bool | None = None, **status: str) -> None:
        """What the operator says of a RayJob."""
        with self._changed:
            job = json.loads(json.dumps(self.jobs[name]))
            job.setdefault("status", {}).update(status)
            if suspend is not None:
                job["spec"]["suspend"] = suspend
            self._store("MODIFIED", job)

    def remove(self, name: str) -> None:
        """The last finalizer is gone: the object is, too."""
        with self._changed:
            self._store("DELETED", self.jobs[name])
            del self.jobs[name]

    def pod(self, name: str, job: str, lines: list[str] | None = None, ended: bool = False) -> None:
        """The submitter's pod of a job, and what it has said."""
        with self._changed:
            self._owned[name] = job
            self.logs[name] = Log(ended=ended)
        for line in lines or []:
            self.say(name, line)

    def say(self, pod: str, text: str, at: float | None = None) -> None:
        """A line of a pod's log."""
        with self._changed:
            lines = self.logs[pod].lines
            lines.append((at if at is not None else float(len(lines)), text))
            self._changed.notify_all()

    def end_pod(self, pod: str) -> None:
        """The container is done."""
        with self._changed:
            self.logs[pod].ended = True
            self._changed.notify_all()

    def cut(self) -> None:
        """Break all connections on which something is followed, in the middle of a line."""
        with self._changed:
            for watch in self._watches:
                watch.put(_CUT)
            self._changed.notify_all()

    def forget_history(self) -> None:
        """Versions until now are too old to watch from."""
        with self._changed:
            self._oldest = self._version

    # What the server needs.

    def note(self, asked: Asked) -> None:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()

    def create(self, job: _Object) -> _Object | None:
        with self._changed:
            if job["metadata"]["name"] in self.jobs:
                return None
            job["metadata"].update(uid=f"uid-{self._version}", namespace=NAMESPACE)
            self._store("ADDED", job)
        self.on_create(job)
        return job

    def delete(self, name: str, uid: str | None) -> int:
        with self._changed:
            job = self.jobs.get(name)
            if job is None:
                return 404
            if uid not in (None, job["metadata"]["uid"]):
                return 409
            if self.finalizers:
                job = json.loads(json.dumps(job))
                job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                self._store("MODIFIED", job)
            else:
                self.remove(name)
        return 200

    def listed(self, name: str) -> tuple[list[_Object], int]:
        with self._changed:
            return [job for key, job in self.jobs.items() if key == name], self._version

    def events(self, name: str, version: int, seconds: float) -> Iterator[Any]:
        """What happened since a version and what happens now; `_CUT` where the connection is to break."""
        watch: queue.Queue[Any] = queue.Queue()
        with self._changed:
            if version < self._oldest:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                watch.put(("ERROR", status))
            for number, kind, job in self._events:
                if number > version:
                    watch.put((kind, job))
            self._watches.append(watch)
            self._changed.notify_all()
        try:
            while True:
                event = watch.get(timeout=seconds)
                if event is _CUT or event[0] == "ERROR" or event[1]["metadata"]["name"] == name:
                    yield event
        except queue.Empty:
            return
        finally:
            with self._changed:
                self._watches.remove(watch)
                self._changed.notify_all()

    def pods(self, job: str) -> list[_Object]:
        with self._changed:
            return [
                {
                    "metadata": {
                        "name": name,
                        "creationTimestamp": (BEGIN + timedelta(seconds=number)).isoformat(),
                    },
                    "status": {"phase": "Succeeded" if self.logs[name].ended else "Running"},
                }
                for number, (name, owner) in enumerate(self._owned.items())
                if owner == job
            ]

    def log(self, pod: str) -> Iterator[Any]:
        """Lines with their times, until the container ends; `_CUT` where the connection is to break."""
        told = 0
        cuts: queue.Queue[Any] = queue.Queue()
        with self._changed:
            self._watches.append(cuts)
        try:
            while True:
                fresh, ended = self._said_since(pod, told, cuts)
                for at, text in fresh:
                    time = (BEGIN + timedelta(seconds=at)).isoformat().replace("+00:00", "")
                    yield f"{time}.000000000Z {text}" if "." not in time else f"{time}Z {text}"
                told += len(fresh)
                if not cuts.empty():
                    yield _CUT
                if ended:
                    return
        finally:
            with self._changed:
                self._watches.remove(cuts)
                self._changed.notify_all()

    def _said_since(self, pod: str, told: int, cuts: queue.Queue[Any]) -> tuple[list[tuple[float, str]], bool]:
        """Lines after the first so many, as soon as there are any; whether they are the last."""
        with self._changed:
            log = self.logs[pod]
            self._changed.wait_for(lambda: len(log.lines) > told or log.ended or not cuts.empty(), 60)
            return log.lines[told:], log.ended

    def _store(self, kind: str, job: _Object) -> None:
        self._version += 1
        job["metadata"]["resourceVersion"] = str(self._version)
        self.jobs[job["metadata"]["name"]] = job
        event = (kind, json.loads(json.dumps(job)))
        self._events.append((self._version, *event))
        for watch in self._watches:
            watch.put(event)
        self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubeApi

    def do_GET(self) -> None:
        asked = self._noted()
        name = asked.query.get("fieldSelector", "").removeprefix("metadata.name=")
        if self._is_refused(asked):
            return
        if asked.path == JOBS and asked.query.get("watch"):
            events = self.api.events(name, int(asked.query["resourceVersion"]), float(asked.query["timeoutSeconds"]))
            self._stream(
                event if event is _CUT else json.dumps({"type": event[0], "object": event[1]}) for event in events
            )
        elif asked.path == JOBS:
            items, version = self.api.listed(name)
            self._answer(200, {"items": items, "metadata": {"resourceVersion": str(version)}})
        elif asked.path == PODS:
            job = asked.query["labelSelector"].removeprefix("batch.kubernetes.io/job-name=")
            self._answer(200, {"kind": "PodList", "apiVersion": "v1", "items": self.api.pods(job)})
        elif asked.path.endswith("/log") and asked.path.split("/")[-2] in self.api.logs:
            self._stream(self.api.log(asked.path.split("/")[-2]))
        elif asked.path.startswith(f"{QUEUES}/") and asked.path.rpartition("/")[2] in self.api.queues:
            self._answer(200, self.api.queues[asked.path.rpartition("/")[2]])
        else:
            self._answer(404, _failure(404, "the server could not find the requested resource"))

    def do_POST(self) -> None:
        asked = self._noted()
        if self._is_refused(asked):
            return
        if asked.path == REVIEWS:
            right = asked.body["spec"]["resourceAttributes"]
            assert right["namespace"] == NAMESPACE
            resource = "/".join(filter(None, [right["resource"], right.get("subresource")]))
            allowed = f"{right['verb']} {right['group']}/{resource}" not in self.api.denied
            self._answer(201, {**asked.body, "status": {"allowed": allowed}})
            return
        job = self.api.create(asked.body)
        if job and self.api.lost_answers:
            self.api.lost_answers -= 1
            self.close_connection = True
            return
        name = asked.body["metadata"]["name"]
        self._answer(201, job) if job else self._answer(409, _failure(409, f'rayjobs "{name}" already exists'))

    def do_DELETE(self) -> None:
        asked = self._noted()
        if self._is_refused(asked):
            return
        uid = ((asked.body or {}).get("preconditions") or {}).get("uid")
        status = self.api.delete(asked.path.rpartition("/")[2], uid)
        self._answer(status, {"kind": "Status", "code": status} if status == 200 else _failure(status, "no such job"))

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _noted(self) -> Asked:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), body)
        self.api.note(asked)
        return asked

    def _is_refused(self, asked: Asked) -> bool:
        kind = (asked.method, asked.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, _failure(401, "Unauthorized"))
        elif failing := next((entry for entry in self.api.failing if entry[:2] == kind), None):
            self.api.failing.remove(failing)
            self._answer(failing[2], _failure(failing[2], "this one time"))
        elif kind in self.api.refused:
            status, message = self.api.refused[kind]
            self._answer(status, _failure(status, message))
        else:
            return False
        return True

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, lines: Iterator[Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):
            for line in lines:
                whole = line is not _CUT
                data = f"{line}\n".encode() if whole else b'{"half a li'
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
                if not whole:
                    return
            self.wfile.write(b"0\r\n\r\n")


def _failure(code: int, message: str) -> _Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


@contextmanager
def kube_api() -> Iterator[tuple[KubeApi, str]]:
    """A cluster, and the address at which it answers."""
    api = KubeApi()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, address: str, token: str = TOKEN) -> Path:
    """A kubeconfig for such a cluster."""
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": NAMESPACE}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(value))
    return path
