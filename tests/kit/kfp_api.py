"""The API of Kubeflow Pipelines on this machine: it keeps what it is sent, and holds every request against the models
and operations of kfp_server_api. Nothing runs there: runs take the states that a test gives them."""

import functools
import inspect
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kfp_server_api
import yaml

Prefopt = Callable[..., tuple[int, str, str]]
"""Runs a prefopt command; gives exit code, output and errors."""
ROOT = "/apis/v2beta1"
_KINDS = {
    "experiments": (
        "ExperimentServiceApi",
        "experiment_service_list_experiments",
        "V2beta1Experiment",
        "experiment_id",
    ),
    "pipelines": ("PipelineServiceApi", "pipeline_service_list_pipelines", "V2beta1Pipeline", "pipeline_id"),
    "pipeline_versions": (
        "PipelineServiceApi",
        "pipeline_service_list_pipeline_versions",
        "V2beta1PipelineVersion",
        "pipeline_version_id",
    ),
    "runs": ("RunServiceApi", "run_service_list_runs", "V2beta1Run", "run_id"),
    "recurring_runs": (
        "RecurringRunServiceApi",
        "recurring_run_service_list_recurring_runs",
        "V2beta1RecurringRun",
        "recurring_run_id",
    ),
}
"""Of each kind: the service, its listing operation, the model, and the field of its id."""
_LISTED = {"recurring_runs": "recurringRuns"}
"""Where the field of an answer that lists a kind has another name."""
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "bool": bool,
    "int": int,
    "object": dict,
    "dict(str, object)": dict,
}
_HOWEVER = {"async_req", "_preload_content", "_request_timeout", "_return_http_data_only"}


class WrongRequestError(Exception):
    """A request that the API does not know: status and reason."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def check_model(name: str, body: Any) -> None:
    """Raise WrongRequestError unless a body has no other fields than the model, and values of their types."""
    model = getattr(kfp_server_api, name)
    if allowed := getattr(model, "allowable_values", None):
        if body not in allowed:
            raise WrongRequestError(f"{body!r} is not one of {name}: {allowed}")
        return
    if not isinstance(body, dict):
        raise WrongRequestError(f"{name} is an object, not {body!r}")
    kinds = {model.attribute_map[attribute]: kind for attribute, kind in model.openapi_types.items()}
    for key, value in body.items():
        if key not in kinds:
            raise WrongRequestError(f"{name} has no field {key!r}")
        if (plain := _PLAIN.get(kinds[key])) is not None:
            if not isinstance(value, plain):
                raise WrongRequestError(f"{name}.{key} is of type {kinds[key]}, not {value!r}")
        elif kinds[key].startswith("list["):
            for one in value:
                check_model(kinds[key][5:-1], one)
        else:
            check_model(kinds[key], value)


@functools.cache
def query_names(service: str, operation: str) -> set[str]:
    """What the query of an operation may hold, as its generated documentation says."""
    told = inspect.getdoc(getattr(getattr(kfp_server_api, service), operation)) or ""
    return set(re.findall(r":param (\w+):", told)) - _HOWEVER


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The one that there is."""
    (one,) = found
    return one


@dataclass
class Fault:
    """What goes wrong with the next requests of a method whose path ends so."""

    method: str
    path: str
    times: int
    status: int | None
    """None: the request is carried out, and its answer lost."""
    body: bytes
    headers: dict[str, str]


@dataclass
class KfpApi:
    """What the server holds, and what it was asked."""

    token: str | None = None
    """Asked of every request."""
    multi_user: bool = False
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    """Of a run, one for each look at it; the last one stays."""
    ending: dict[str, Any] = field(default_factory=dict)
    """Further fields of a run."""
    page: int = 100
    """At most so many objects in an answer."""
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    uploads: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """How often: method and path, with * for ids."""
    problems: list[str] = field(default_factory=list)
    """Requests that the API does not know."""
    url: str = ""
    _faults: list[Fault] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def fail(self, method: str, path: str, status: int, times: int = 1, body: bytes = b"{}", **headers: str) -> None:
        """Answer the next requests with this status and do nothing."""
        self._faults.append(Fault(method, path, times, status, body, headers))

    def lose(self, method: str, path: str, times: int = 1) -> None:
        """Carry out the next requests, and close the connection without an answer."""
        self._faults.append(Fault(method, path, times, None, b"", {}))

    def fault(self, method: str, path: str) -> Fault | None:
        """What goes wrong with this request."""
        for fault in self._faults:
            if fault.times and fault.method == method and path.endswith(fault.path):
                fault.times -= 1
                return fault
        return None

    def add(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep an object under a new id."""
        check_model(_KINDS[kind][2], body)
        one = {_KINDS[kind][3]: f"{kind}-{next(self._numbers)}", **body}
        self.kept[kind].append(one)
        return one

    def get(self, kind: str, identity: str | None) -> dict[str, Any]:
        """The object of an id."""
        for one in self.kept[kind]:
            if one[_KINDS[kind][3]] == identity:
                return one
        raise WrongRequestError(f"no {kind} {identity}", 404)

    def answer(self, method: str, path: str, query: dict[str, str], headers: Message, body: bytes) -> dict[str, Any]:
        """Carry a request out."""
        match method, path.removeprefix(ROOT).strip("/").split("/"):
            case "GET", ["healthz"]:
                return {"multi_user": self.multi_user}
            case "GET", ["experiments" | "pipelines" | "runs" as kind]:
                return self._list(kind, query)
            case "GET", ["recurringruns"]:
                return self._list("recurring_runs", query)
            case "GET", ["pipelines", pipeline, "versions"]:
                self.get("pipelines", pipeline)
                return self._list("pipeline_versions", query, {"pipeline_id": pipeline})
            case "GET", ["runs", run]:
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                return self.get("runs", run) | {"state": state, **self.ending}
            case "POST", ["experiments" | "pipelines" as kind]:
                return self._named(kind, json.loads(body))
            case "POST", ["pipelines", "upload_version"]:
                return self._uploaded(query, headers, body)
            case "POST", ["runs"]:
                return self._started("runs", json.loads(body), {"state": "PENDING"})
            case "POST", ["recurringruns"]:
                wanted = json.loads(body)
                check_trigger(wanted)
                return self._started("recurring_runs", wanted, {"status": f"{wanted['mode']}D"})
            case "POST", ["recurringruns", order] if order.endswith(":enable"):
                self.get("recurring_runs", order.removesuffix(":enable")).update(mode="ENABLE", status="ENABLED")
                return {}
            case "DELETE", ["recurringruns", identity]:
                self.kept["recurring_runs"].remove(self.get("recurring_runs", identity))
                return {}
        raise WrongRequestError(f"no operation {method} {path}", 404)

    def _list(self, kind: str, query: dict[str, str], within: dict[str, str] | None = None) -> dict[str, Any]:
        unknown = query.keys() - query_names(*_KINDS[kind][:2])
        if unknown:
            raise WrongRequestError(f"listing {kind} knows no {unknown}")
        wanted = {name: query[name] for name in ("namespace", "experiment_id") if name in query} | (within or {})
        if "filter" in query:
            given = json.loads(query["filter"])
            check_model("V2beta1Filter", given)
            wanted |= {one["key"]: one["string_value"] for one in given["predicates"] if one["operation"] == "EQUALS"}
        found = [one for one in self.kept[kind] if all(one.get(key) == value for key, value in wanted.items())]
        start = int(query.get("page_token", "0"))
        more = {"next_page_token": str(start + self.page)} if start + self.page < len(found) else {}
        listed = {_LISTED.get(kind, kind): found[start : start + self.page], **more}
        check_model(f"V2beta1List{_KINDS[kind][2].removeprefix('V2beta1')}sResponse", listed)
        return listed

    def _named(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        names = [one["display_name"] for one in self.kept[kind]]
        if body["display_name"] in names:
            raise WrongRequestError(f"{body['display_name']} already exists", 409)
        return self.add(kind, body)

    def _uploaded(self, query: dict[str, str], headers: Message, body: bytes) -> dict[str, Any]:
        if query.keys() - query_names("PipelineUploadServiceApi", "upload_pipeline_version"):
            raise WrongRequestError(f"upload_version knows no such query: {query}")
        whole = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
        (part,) = BytesParser().parsebytes(whole).get_payload()
        assert isinstance(part, Message)
        if part.get_param("name", header="Content-Disposition") != "uploadfile":
            raise WrongRequestError("the file is not in the field uploadfile")
        if not (part.get_filename() or "").endswith(".yaml"):
            raise WrongRequestError("the file's name does not end in .yaml")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if "pipelineInfo" not in next(yaml.safe_load_all(content)):
            raise WrongRequestError("the file is no pipeline")
        pipeline = self.get("pipelines", query["pipelineid"])["pipeline_id"]
        if any(
            (one["pipeline_id"], one["name"]) == (pipeline, query["name"]) for one in self.kept["pipeline_versions"]
        ):
            raise WrongRequestError("the version already exists", 409)
        self.uploads.append(query["name"])
        names = {"name": query["name"], "display_name": query["name"]}
        return self.add("pipeline_versions", {"pipeline_id": pipeline, **names})

    def _started(self, kind: str, body: dict[str, Any], more: dict[str, str]) -> dict[str, Any]:
        if not body.get("display_name"):
            raise WrongRequestError("a name is missing")
        self.get("experiments", body.get("experiment_id"))
        if ("pipeline_spec" in body) == ("pipeline_version_reference" in body):
            raise WrongRequestError("either pipeline_spec or pipeline_version_reference")
        reference = body["pipeline_version_reference"]
        version = self.get("pipeline_versions", reference["pipeline_version_id"])
        if version["pipeline_id"] != reference["pipeline_id"]:
            raise WrongRequestError("the version is another pipeline's")
        return self.add(kind, body | more)


def check_trigger(body: dict[str, Any]) -> None:
    """Raise WrongRequestError unless a recurring run has one trigger, a mode and a positive concurrency."""
    trigger = body.get("trigger", {})
    if ("cron_schedule" in trigger) == ("periodic_schedule" in trigger):
        raise WrongRequestError("one of cron_schedule and periodic_schedule")
    if body.get("mode") not in ("ENABLE", "DISABLE") or int(body.get("max_concurrency", 0)) < 1:
        raise WrongRequestError("mode or max_concurrency")


@contextmanager
def kfp_api(**settings: Any) -> Iterator[KfpApi]:
    """A server. When the block ends, every request must have been one that the API knows."""
    api, lock = KfpApi(**settings), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            with lock:
                api.asked[f"{self.command} {re.sub(r'[a-z_]+-[0-9]+', '*', parts.path.removeprefix(ROOT))}"] += 1
                fault = api.fault(self.command, parts.path)
                if fault and fault.status:
                    self._send(fault.status, fault.body, fault.headers)
                    return
                status, answer = self._carried_out(parts.path, dict(parse_qsl(parts.query)), body)
            if fault:
                self.close_connection = True
                return
            self._send(status, json.dumps(answer).encode(), {})

        do_GET = do_POST = do_DELETE = _serve

        def _carried_out(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
            if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                return 401, {"error": f"not accepted: {self.headers.get('Authorization')}"}
            try:
                return 200, api.answer(self.command, path, query, self.headers, body)
            except WrongRequestError as wrong:
                if wrong.status == 400:
                    api.problems.append(f"{self.command} {self.path}: {wrong}")
                return wrong.status, {"message": str(wrong), "code": 3}

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
        assert api.problems == []
    finally:
        server.shutdown()
        server.socket.close()
        thread.join()
