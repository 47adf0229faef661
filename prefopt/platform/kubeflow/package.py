"""Compiled pipelines: where their packages lie, what they are called by content, which parameters they take, and the
image that they run in."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prefopt import __version__
from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError

DIRECTORY = "pipelines"
"""Where packages given by name lie, in the current directory."""
OWN_IMAGE = "prefopt"
"""The name of prefopt's image, without its tag, in the committed packages."""
_HEX = 12
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
"""What a value of each of KFP's types is in Python. A bool is no number."""


@dataclass(frozen=True)
class Parameter:
    """What a pipeline says of one of its parameters."""

    kind: str
    """KFP's name of the type."""
    optional: bool


@dataclass(frozen=True)
class Package:
    """A compiled pipeline."""

    path: str
    content: bytes
    pipeline: str
    """Its name."""
    version: str
    """The release of prefopt, and the beginning of the hash of the documents: the same content has the same name."""
    parameters: Mapping[str, Parameter]

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ConfigError, which names the parameter, unless the pipeline can be started with these values."""
        known = ", ".join(f"{name} ({parameter.kind})" for name, parameter in self.parameters.items()) or "none"
        for name, value in values.items():
            if name not in self.parameters:
                raise ConfigError(
                    f"{self.path}: pipeline {self.pipeline!r} has no parameter {name!r}. It has: {known}."
                )
            kind = self.parameters[name].kind
            if not _is_of(value, kind):
                raise ConfigError(
                    f"{self.path}: parameter {name!r} of pipeline {self.pipeline!r} is of type {kind}, not"
                    f" {type(value).__name__}. Its parameters: {known}."
                )
        missing = [name for name, parameter in self.parameters.items() if not parameter.optional and name not in values]
        if missing:
            raise ConfigError(
                f"{self.path}: pipeline {self.pipeline!r} also needs {', '.join(map(repr, missing))}: give"
                f" --param NAME=VALUE. Its parameters: {known}."
            )


def read_package(given: str, image: str | None = None) -> Package:
    """The package at a path that ends in .yaml or .yml, or that a name stands for. ConfigError if there is none.

    `image` takes the place of prefopt's own in every task, and so is a part of the version.
    """
    if image is not None:
        check_image(image)
    path = Path(given)
    if path.suffix not in (".yaml", ".yml"):
        if os.sep in given:
            raise ConfigError(f"--pipeline {given}: a pipeline's package is a file that ends in .yaml.")
        path = Path(DIRECTORY) / f"{given}.yaml"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"--pipeline {given}: no package at {path.absolute()} ({error.strerror}). Packages are part of prefopt's"
            " repository, not of the installed wheel: run this in a checkout, or give the path of a compiled pipeline,"
            " --pipeline PATH.yaml."
        ) from None
    return _parsed(str(path), content, image)


def check_image(image: str) -> None:
    """ConfigError unless it can be a reference to an image."""
    if not image or any(character.isspace() for character in image):
        raise ConfigError(f"--image {image!r}: give an image as nodes pull it: registry.example/team/prefopt:0.1.0.")


def _parsed(path: str, content: bytes, image: str | None) -> Package:
    try:
        documents = [document for document in yaml.safe_load_all(content) if document is not None]
        if image is not None:
            _replace_image(documents[0], image, path)
            content = yaml.safe_dump_all(documents, sort_keys=False).encode()
        pipeline = documents[0]["pipelineInfo"]["name"]
        inputs = documents[0]["root"].get("inputDefinitions", {})
        parameters = {
            name: Parameter(str(definition["parameterType"]), _is_optional(definition))
            for name, definition in inputs.get("parameters", {}).items()
        }
        version = f"{__version__}-{canonical_hash(documents)[:_HEX]}"
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{path} is not a compiled KFP v2 pipeline: {detail}.") from None
    return Package(path, content, str(pipeline), version, parameters)


def _replace_image(pipeline: Mapping[str, Any], image: str, path: str) -> None:
    executors = pipeline["deploymentSpec"]["executors"].values()
    containers = [executor["container"] for executor in executors if "container" in executor]
    own = [container for container in containers if re.split("[:@]", container["image"])[0] == OWN_IMAGE]
    if not own:
        named = ", ".join(sorted({container["image"] for container in containers})) or "none"
        raise ConfigError(f"--image {image}: no task of {path} runs in {OWN_IMAGE}:TAG. Its images: {named}.")
    for container in own:
        container["image"] = image


def _is_optional(definition: Mapping[str, Any]) -> bool:
    return bool(definition.get("isOptional")) or "defaultValue" in definition


def _is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "BOOLEAN"
    return isinstance(value, _PYTHON.get(kind, (object,)))
