"""A Ray cluster of several nodes in a network of its own: a private namespace with nothing but a loopback."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.kit.processes import HEED_INTERRUPTS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:8265"
_PORT = 26379
_SECONDS = 120


def may_isolate() -> bool:
    """Whether this process may make a network namespace (root may)."""
    found = shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")
    return bool(found) and subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


@dataclass
class RayCluster:
    """Nodes, and commands run beside them."""

    place: Path
    holder: int
    """The process whose network namespace is the cluster's."""
    sessions: Path
    """Ray's own files. A short path: sockets lie in it."""
    environment: dict[str, str] = field(default_factory=dict)
    head_raylet: int = 0
    _started: int = 0

    def start(self, *arguments: str, cpus: int) -> None:
        """A head or a worker node."""
        self._started += 1
        place = self.sessions / str(self._started)  # nodes that share one delete each other's copies of a working dir
        command = ["ray", "start", "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus), "--disable-usage-stats"]
        self.run([*command, "--temp-dir", str(place), "--object-store-memory", "200000000", *arguments], check=True)

    def head(self, cpus: int) -> None:
        """The head, with the dashboard that takes jobs."""
        dashboard = ("--dashboard-host", "127.0.0.1", "--include-dashboard", "true")
        self.start("--head", "--port", str(_PORT), *dashboard, cpus=cpus)
        (self.head_raylet,) = self.raylets()

    def worker(self, cpus: int) -> None:
        """A further node."""
        self.start("--address", f"127.0.0.1:{_PORT}", cpus=cpus)

    def raylets(self) -> set[int]:
        """Of all nodes."""
        return {process.pid for process in self.processes() if process.name() == "raylet"}

    def lose_busiest(self) -> None:
        """The worker node with the most work goes away: its raylet and all workers are killed at once."""
        nodes = {node: psutil.Process(node).children(recursive=True) for node in self.raylets() - {self.head_raylet}}
        busy = {node: [child for child in nodes[node] if _works(child)] for node in nodes}
        lost = max(nodes, key=lambda node: len(busy[node]))
        assert busy[lost], "no worker node works"
        for process in (psutil.Process(lost), *nodes[lost]):
            process.kill()

    def processes(self) -> list[psutil.Process]:
        """All that run in this network."""
        namespace, found = os.readlink(f"/proc/{self.holder}/ns/net"), []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/net") == namespace and process.pid != self.holder:
                    found.append(process)
            except OSError:  # it has ended
                continue
        return found

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command in the cluster's network."""
        return ["nsenter", "-t", str(self.holder), "-n", *arguments]

    def run(self, arguments: Sequence[str], *, check: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; `more` are environment variables."""
        return subprocess.run(
            self.command(arguments),
            env={**self.environment, **more},
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=_SECONDS * 4,
            check=check,
        )

    def begin(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start it, and go on."""
        return subprocess.Popen(
            self.command([*HEED_INTERRUPTS, *arguments]),
            env=self.environment,
            cwd=self.place,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _works(process: psutil.Process) -> bool:
    """Whether this is one of Ray's workers, at work."""
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    return title.startswith("ray::") and not title.startswith("ray::IDLE")


@contextmanager
def ray_cluster(place: Path) -> Iterator[RayCluster]:
    """A network without nodes, whose Ray asks for a token. All that was started in it ends with the block."""
    if not may_isolate():
        pytest.skip("a network namespace needs root, unshare, nsenter and ip")
    token = place / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
    }
    sessions = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(place, holder.pid, sessions, environment)
    try:
        end = time.monotonic() + _SECONDS
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < end
            time.sleep(0.05)
        cluster.run(["ip", "link", "set", "lo", "up"], check=True)
        yield cluster
    finally:
        family = cluster.processes()
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=20)
        holder.kill()
        holder.wait()
        shutil.rmtree(sessions, ignore_errors=True)
