"""Jobs of a Ray cluster that is there, by its Jobs API."""

import asyncio
import itertools
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from prefopt.config.submit import RaySubmitConfig
from prefopt.platform.jobs import Job, JobError, Tail

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_POLL_SECONDS = 1.0
_SILENT_SECONDS = 300.0
"""Of one connection to the log, which is read again from its start then: it may be dead without saying so."""
_PATIENCE = 30
"""Polls in a row that may find no cluster before a job is given up."""


class RayJobsSubmitter:
    """Submits jobs under their names. One that is pending or running is watched; after one that has ended comes the
    next attempt, `<name>-2`."""

    def __init__(self, config: RaySubmitConfig) -> None:
        """JobError if nobody answers there, or the token is refused."""
        from ray.job_submission import JobSubmissionClient

        self._address = config.address
        with self._reached():
            self._client: JobSubmissionClient = JobSubmissionClient(config.address)

    def run(self, job: Job, tell: Callable[[str], None]) -> None:
        """Submit it, or find it, and watch it to its end. Raises JobError with the driver's own exit code."""
        self.watch(self.submit(job, tell), tell)

    def submit(self, job: Job, tell: Callable[[str], None], *, done: bool = False) -> str:
        """The id of the attempt that is to be watched. If what the job makes is there (`done`), a success counts, and
        its log is told again; else it proves nothing, and the job runs once more."""
        from ray.job_submission import JobStatus

        for attempt in itertools.count(1):
            name = job.name if attempt == 1 else f"{job.name}-{attempt}"
            found = self._find(name)
            if found is None:
                return self._start(name, job, tell)
            if not found.status.is_terminal() or (done and found.status == JobStatus.SUCCEEDED):
                tell(f"Job {name} is there already ({found.status.lower()}): watching it.")
                return name
        raise AssertionError

    def watch(self, name: str, tell: Callable[[str], None]) -> None:
        """Pass on its log, then say how it ended. Raises JobError unless it succeeded."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError

        tail = Tail(tell)
        reader, misses = _Lines(tail), 0
        while True:
            try:
                with suppress(TimeoutError):
                    asyncio.run(asyncio.wait_for(self._follow(name, reader), _SILENT_SECONDS))
                found = self._client.get_job_info(name)
                misses = 0
            except (OSError, RuntimeError, AuthenticationError, ClientError) as error:
                misses += 1
                if misses > _PATIENCE:
                    raise JobError(
                        f"The Ray cluster at {self._address} no longer answers ({error}); job {name} may still run."
                        " Submit the same command again to watch it."
                    ) from None
                time.sleep(_POLL_SECONDS)
                continue
            if found.status.is_terminal():
                break
            time.sleep(_POLL_SECONDS)
        reader.flush()
        self._judge(name, found, tail)

    def stop(self, name: str) -> None:
        """Ask the cluster to stop the job."""
        with self._reached():
            self._client.stop_job(name)

    def _start(self, name: str, job: Job, tell: Callable[[str], None]) -> str:
        entrypoint = shlex.join(["prefopt", *job.arguments])
        try:
            with self._reached():
                self._client.submit_job(entrypoint=entrypoint, submission_id=name, metadata=dict(job.labels))
        except RuntimeError as error:
            if self._find(name) is None:  # else somebody else has just submitted it
                raise JobError(f"The Ray cluster at {self._address} refused the job {name}: {error}") from None
        tell(f"Job {name} on {self._address}: {entrypoint}")
        return name

    def _find(self, name: str) -> "JobDetails | None":
        with self._reached():
            try:
                return self._client.get_job_info(name)
            except RuntimeError as error:
                if "status code 404" in str(error):
                    return None
                raise JobError(f"The Ray cluster at {self._address} does not tell of job {name}: {error}") from None

    async def _follow(self, name: str, reader: "_Lines") -> None:
        reader.restart()
        async for text in self._client.tail_job_logs(name):
            reader.take(text)

    def _judge(self, name: str, found: "JobDetails", tail: Tail) -> None:
        from ray.job_submission import JobStatus

        if found.status == JobStatus.SUCCEEDED:
            return
        code = found.driver_exit_code or 1
        how = "was stopped" if found.status == JobStatus.STOPPED else f"failed with exit code {code}"
        cause = tail.text or found.message or ""
        raise JobError(f"Job {name} on {self._address} {how}. Its last lines:\n{cause}", code)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise JobError(
                f"The Ray cluster at {self._address} refuses the token (401): set RAY_AUTH_MODE=token, and"
                " RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN to the cluster's."
            ) from None
        except OSError as error:
            raise JobError(
                f"Cannot reach a Ray cluster at {self._address}: {error} Check the address (the dashboard's, for"
                " example http://head:8265) and the network."
            ) from None


class _Lines:
    """Lines of a log that is read again from its start after every broken connection: none is told twice."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = self._seen = 0
        self._rest = ""

    def restart(self) -> None:
        """What comes next is the log from its start."""
        self._seen = 0

    def take(self, text: str) -> None:
        """The next part."""
        start = self._seen
        self._seen += len(text)
        if self._seen <= self._told:
            return
        *lines, self._rest = (self._rest + text[max(0, self._told - start) :]).split("\n")
        self._told = self._seen
        for line in lines:
            self._tell(line.rstrip("\r"))

    def flush(self) -> None:
        """The last line, if it has no end."""
        if self._rest:
            self._tell(self._rest)
        self._rest = ""
