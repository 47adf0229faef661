"""The Dockerfile as stages of instructions."""

import json
import re
import shlex
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

from tests.kit.manifests import ROOT


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        """Of all instructions of a kind, in their order."""
        return [value for kind, value in self.instructions if kind == instruction]

    @property
    def sources(self) -> list[str]:
        """What COPY takes from the project."""
        return [name for value in self.values("COPY") if "--from" not in value for name in shlex.split(value)[:-1]]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets, unexpanded."""
        return _assignments(self.values("ENV"))

    @property
    def labels(self) -> dict[str, str]:
        """What LABEL sets, unexpanded."""
        return _assignments(self.values("LABEL"))

    @property
    def arguments(self) -> dict[str, str | None]:
        """Build arguments with their defaults."""
        parts = [value.partition("=") for value in self.values("ARG")]
        return {name: default if equals else None for name, equals, default in parts}


def read_dockerfile(path: Path = ROOT / "Dockerfile") -> dict[str, Stage]:
    """The stages of a Dockerfile by their names. The first has neither: it holds the arguments before any FROM."""
    stages = [Stage("", "")]
    parser = DockerfileParser(fileobj=BytesIO(path.read_bytes()))
    for entry in json.loads(parser.json):
        ((kind, value),) = entry.items()
        if kind == "FROM":
            base, _, name = re.fullmatch(r"(\S+)(\s+AS\s+(\S+))?", value).groups()  # type: ignore[union-attr]
            stages.append(Stage(base, name or ""))
        elif kind != "COMMENT":
            stages[-1].instructions.append((kind, value))
    return {stage.name: stage for stage in stages}


def pinned() -> dict[str, str]:
    """The versions of constraints.txt."""
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def _assignments(values: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for value in values for word in shlex.split(value))
