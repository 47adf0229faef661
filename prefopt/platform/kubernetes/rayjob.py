"""Jobs as RayJobs of Kubernetes: created once, watched to their end, deleted when their maker wants them no more."""

import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from prefopt.config.kubernetes import KubernetesConfig
from prefopt.platform.jobs import Job, JobError, Tail
from prefopt.platform.kubernetes.api import Kube, KubeError
from prefopt.platform.kubernetes.manifest import SUBMISSION_ANNOTATION, Manifest, Owner, ray_job
from prefopt.platform.kubernetes.pod_logs import PodLog
from prefopt.platform.kubernetes.rules import check
from prefopt.platform.kubernetes.watch import Patience, State, states

_ROUNDS = 5
_DELETION_SECONDS = 300.0
_LOG_SECONDS = 60.0
_EXIT_CODE = re.compile(r"exit code (\d{1,3})\b")
_HINTS = {
    "DeadlineExceeded": "It took longer than cluster.submit.deadline_seconds.",
    "PreRunningDeadlineExceeded": "Its cluster did not start within cluster.submit.pre_running_seconds: are there nodes"
    " with so many CPUs, so much memory and so many GPUs, and can they pull the image?",
}


class RayJobSubmitter:
    """Runs jobs as RayJobs, each on a cluster of its own. A Submitter."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config

    def run(self, job: Job, tell: Callable[[str], None]) -> None:
        """Run it to its end, or watch the one of that name that is still going.

        One that has ended, well or not, is deleted first and made anew: whoever submits has found no output, so its
        end proves nothing. When this process is told to end (SIGTERM, Ctrl-C), it deletes the RayJob if it made it,
        and leaves it if it only watches. Raises JobError if the job fails, is deleted, waits too long, or if
        Kubernetes does not do as it is told; ConfigError if the job could never run.
        """
        kube, submission = Kube(self._config.namespace), secrets.token_hex(8)
        manifest = ray_job(job, self._config, _owner(kube), submission)
        check(manifest)
        tell = _one_at_a_time(tell)
        with _left_in_order(kube, job.name, submission, tell):
            self._submit(kube, manifest, tell)
            self._watch(kube, job.name, tell)

    def _submit(self, kube: Kube, manifest: Manifest, tell: Callable[[str], None]) -> None:
        name, submission = manifest["metadata"]["name"], manifest["metadata"]["annotations"][SUBMISSION_ANNOTATION]
        for _ in range(_ROUNDS):
            created = kube.create(manifest)
            state = State() if created else State.of(kube.find(name)[0])
            if created or state.submission == submission:  # the latter if the answer to `create` was lost
                tell(f"RayJob {name} is created in namespace {kube.namespace}.")
                return
            if state.uid and not state.deleting:
                if not state.ended:
                    tell(f"RayJob {name} is there already, {_shown(state)}: it is watched.")
                    return
                tell(f"RayJob {name} has ended before, {_shown(state)}: it is deleted and made anew.")
                kube.delete(name, state.uid)
            _await_deletion(kube, name, state.uid)
        raise JobError(f"RayJob {kube.namespace}/{name} is created and deleted by someone else again and again.")

    def _watch(self, kube: Kube, name: str, tell: Callable[[str], None]) -> None:
        place, patience, tail = f"{kube.namespace}/{name}", Patience(self._config), Tail(tell)
        log, before = PodLog(kube, name, tail), State()
        try:
            for state in states(kube, name, patience.left):
                if state.ended:
                    log.finish(_LOG_SECONDS)
                    if not state.succeeded:
                        raise _failure(place, state, tail)
                    return
                if state.deleting or not state.uid:
                    raise JobError(_with(f"RayJob {place} was deleted while it was {_shown(before)}.", tail.text))
                if patience.see(state):
                    tell(f"RayJob {name} is {_shown(state)}.")
                if state.phase == "running":
                    log.start()
                if patience.left() <= 0:
                    kube.delete(name, state.uid)
                    raise JobError(_with(_overdue(place, state, patience), tail.text))
                before = state
        except KubeError as error:
            raise KubeError(f"{error} RayJob {place} goes on: who submits it again watches it.", error.status) from None
        finally:
            log.stop()


def _owner(kube: Kube) -> Owner | None:
    """This pod, as Kubeflow Pipelines names it, or whoever wrote its manifest. Kubernetes removes at once what an owner
    in another namespace is said to have."""
    for prefix in ("KFP_", ""):
        name, uid = (os.environ.get(f"{prefix}{variable}") for variable in ("POD_NAME", "POD_UID"))
        if name and uid and kube.own_namespace == kube.namespace:
            return Owner(name, uid)
    return None


def _await_deletion(kube: Kube, name: str, uid: str) -> None:
    end = time.monotonic() + _DELETION_SECONDS
    for state in states(kube, name, lambda: end - time.monotonic()):
        if not state.uid or state.uid != uid:
            return
        if time.monotonic() >= end:
            raise JobError(
                f"RayJob {kube.namespace}/{name} is being deleted since {_DELETION_SECONDS:g} s and is still there: the"
                " KubeRay operator, which must let it go, does not seem to run."
            )


@contextmanager
def _left_in_order(kube: Kube, name: str, submission: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Delete the job of this submission when this process is told to end while the block runs."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    handled = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGTERM, end) if handled else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if handled:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would leave the job alive
        _leave(kube, name, submission, tell)
        raise
    finally:
        if handled:
            signal.signal(signal.SIGTERM, former or signal.SIG_DFL)


def _leave(kube: Kube, name: str, submission: str, tell: Callable[[str], None]) -> None:
    try:
        state = State.of(kube.find(name)[0])
        if state.submission == submission:
            kube.delete(name, state.uid)
            tell(f"Told to end: RayJob {name} is deleted.")
        elif state.uid:
            tell(f"Told to end: RayJob {name} goes on, for another submission made it.")
    except KubeError as error:
        tell(f"Told to end, but RayJob {name} may go on: {error}")


def _one_at_a_time(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The log is followed in a thread of its own; its lines and ours never mix."""
    lock = threading.RLock()

    def told(line: str) -> None:
        with lock:
            tell(line)

    return told


def _shown(state: State) -> str:
    if state.suspended:
        return "suspended: it waits for its queue"
    return state.deployment or "new"


def _overdue(place: str, state: State, patience: Patience) -> str:
    if state.suspended:
        return (
            f"RayJob {place} waited for its queue longer than cluster.submit.suspended_seconds ({patience.limit:g}) and"
            " is deleted. See what the queue admits: kubectl get workloads."
        )
    return (
        f"RayJob {place} has been {_shown(state)} for {patience.limit:g} s, longer than its deadline allows, and is"
        " deleted: the KubeRay operator does not seem to run."
    )


def _failure(place: str, state: State, tail: Tail) -> JobError:
    first, *rest = state.message.strip().splitlines() or [""]
    how = "was stopped" if state.status == "STOPPED" else "failed"
    cause = ": ".join(part for part in (state.reason or state.deployment, first) if part)
    words = f"RayJob {place} {how} ({cause}). {_HINTS.get(state.reason, '')}".rstrip()
    code = _EXIT_CODE.search(first)
    last = Tail(lambda line: None)
    for line in rest:
        last(line)
    return JobError(_with(words, tail.text or last.text), int(code.group(1)) if code else 1)


def _with(words: str, lines: str) -> str:
    return f"{words}\n{lines}" if lines else words
