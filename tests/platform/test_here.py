"""prefopt commands as processes of this machine."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from prefopt.platform.here import HereSubmitter, answer
from prefopt.platform.jobs import Job, JobError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path[1:]]))


def test_every_line_of_both_streams_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    HereSubmitter().run(Job("one", ("version",)), told.append)
    assert told == ["0.1.0"]


def test_a_failure_ends_with_its_last_lines_and_exit_code(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(JobError, match=r"prefopt ingest ended with exit code 2: .*Cannot read the config") as raised:
        HereSubmitter().run(Job("one", ("ingest", str(tmp_path / "no.yaml"))), told.append)
    assert raised.value.exit_code == 2
    assert "Cannot read the config" in "\n".join(told)


def test_an_answer_is_the_last_line_of_standard_output() -> None:
    told: list[str] = []
    found = answer(["registry", "list", "--registry", "/nowhere"], told.append)
    assert found == {"champion": None, "records": []}
    assert told == []


def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    """The watcher gets SIGTERM while its command waits for a pipe that nobody writes to; both end."""
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    watcher = textwrap.dedent(
        f"""
        from prefopt.platform.here import HereSubmitter, say
        from prefopt.platform.jobs import Job, JobError
        try:
            HereSubmitter().run(Job("one", ("ingest", {str(pipe)!r})), say)
        except JobError as error:
            print(error.exit_code, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", watcher], stdout=subprocess.PIPE, text=True) as process:
        opened = threading.Thread(target=lambda: os.open(pipe, os.O_WRONLY), daemon=True)
        opened.start()
        opened.join()  # returns when the command reads its config, and so runs
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert said.strip() == str(128 + signal.SIGTERM)
