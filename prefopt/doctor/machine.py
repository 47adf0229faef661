"""Checks of this machine: Python, packages, processors, memory, disk, accelerators."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from prefopt.doctor.report import Check, ok, problem, warning

GIB = 1 << 30
LEAST_MEMORY_GIB = 8.0
"""What the embedded world's demo needs in all."""
LEAST_DISK_GIB = 5.0


def check_machine() -> Iterator[Check]:
    """All checks that need no config."""
    yield check_python(platform.python_version())
    packages = check_packages(required_packages(), installed_versions())
    yield packages
    yield check_processors(processors())
    yield check_memory(free_memory())
    if packages.state == "ok":
        yield check_accelerators(accelerators())
    yield ok("compiler", "None is needed, unless train.compile is set: nothing else is compiled at run time.")


def check_python(version: str) -> Check:
    """The version of Python against the package's range."""
    wanted = importlib.metadata.metadata("prefopt")["Requires-Python"]
    if version in SpecifierSet(wanted):
        return ok("python", f"Python {version}.")
    return problem("python", f"Python {version} is outside {wanted}.", "Install prefopt under a Python in that range.")


def required_packages() -> list[Requirement]:
    """What prefopt needs besides its extras."""
    found = [Requirement(text) for text in importlib.metadata.requires("prefopt") or []]
    return [need for need in found if need.marker is None or need.marker.evaluate({"extra": ""})]


def installed_versions() -> dict[str, str]:
    """Versions of the packages that are installed here, by normalised name."""
    return {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}


def check_packages(needed: list[Requirement], installed: Mapping[str, str]) -> Check:
    """Versions against the ranges that prefopt declares."""
    wrong = []
    for need in needed:
        version = installed.get(_normal(need.name))
        if version is None:
            wrong.append(f"{need.name} is missing")
        elif not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name} {version} is outside {need.specifier}")
    if not wrong:
        shown = [
            f"{name} {installed[name]}" for name in ("torch", "ray", "deepspeed", "diffusers") if name in installed
        ]
        return ok("packages", f"{len(needed)} packages in their ranges: {', '.join(shown)}.")
    return problem(
        "packages",
        f"{'; '.join(wrong)}.",
        "Install prefopt into an environment of its own: its packages then come in the right versions.",
    )


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_processors(number: int) -> Check:
    """Enough for one worker and for reading."""
    if number < 2:
        return warning(
            "processors", "1 processor.", "Set cluster.workers and train.workers to 1; expect it to be slow."
        )
    return ok("processors", f"{number} processors.")


def free_memory() -> float | None:
    """GiB that may still be used, within a container's limit; None where it is not known."""
    found = [_meminfo(), _container_room()]
    known = [value for value in found if value is not None]
    return min(known) / GIB if known else None


def check_memory(free: float | None) -> Check:
    """Enough for the smallest run."""
    if free is None:
        return warning("memory", "How much memory is free is not known here.", "Watch it during the first run.")
    if free < LEAST_MEMORY_GIB:
        return warning(
            "memory",
            f"{free:.1f} GiB are free.",
            f"The demo needs up to {LEAST_MEMORY_GIB:g} GiB: end other work, or lower cluster.workers.",
        )
    return ok("memory", f"{free:.1f} GiB are free.")


def check_disk(name: str, place: str) -> Check:
    """Room at a local directory, which need not exist yet."""
    path = Path(place).absolute()
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / GIB
    if free < LEAST_DISK_GIB:
        return warning(f"disk for {name}", f"{free:.1f} GiB are free at {place}.", "Free some space or choose another.")
    return ok(f"disk for {name}", f"{free:.1f} GiB are free at {place}.")


def accelerators() -> list[tuple[str, float]]:
    """Name and memory in GiB of each GPU that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(device.name, device.total_memory / GIB) for device in found]


def check_accelerators(found: list[tuple[str, float]]) -> Check:
    """What trains: GPUs, or processors alone."""
    if not found:
        return ok("accelerators", "No GPU: enough for the embedded world, not for SD1.5 or SDXL.")
    shown = ", ".join(f"{name} with {memory:.0f} GiB" for name, memory in found)
    return ok("accelerators", f"{len(found)} GPU{'s' if len(found) > 1 else ''}: {shown}.")


def _meminfo() -> float | None:
    path = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return 1024.0 * int(match.group(1)) if match else None


def _container_room() -> float | None:
    """What a container may still take, under cgroups of version 2."""
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not limit.exists() or not used.exists() or limit.read_text().strip() == "max":
        return None
    return max(0.0, float(limit.read_text()) - float(used.read_text()))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
