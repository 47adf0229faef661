"""docs/operations.md tells what there is: places, versions, messages."""

import re
from pathlib import Path

import pytest

from prefopt import __version__
from tests.kit.manifests import OVERLAYS, ROOT, everything

PAGE = (ROOT / "docs" / "operations.md").read_text()
SOURCE = "\n".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text()) for path in sorted((ROOT / "prefopt").rglob("*.py")))
"""The package, with its texts in one piece."""
MESSAGES = [
    "This image was built for Ray",
    "GPUs that the Ray cluster has now: training waits until it has one for each.",
    "A process that worked on",
    "died, and beginning its unit again",
    "Ray's object store is full, and so is the disk that it spills to",
    "Cannot read the config",
    "No such file or directory. Check the path.",
    "needs the output of",
    "does not hold for this config",
    "permission denied",
    "Choose another directory.",
    "Nobody answers at",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_on_the_page_is_one_that_is_said(message: str) -> None:
    assert message in PAGE
    assert message.replace("No such file or directory. ", "") in SOURCE


def test_places_on_the_page_exist() -> None:
    places = set(re.findall(r"-[kf] (k8s/\S+)", PAGE)) | set(re.findall(r"`(k8s/[\w./-]+)`", PAGE))
    assert {f"k8s/overlays/{overlay}" for overlay in OVERLAYS} & places
    for place in places | set(re.findall(r"^ {4}(k8s/\w+) ", PAGE, re.MULTILINE)):
        assert (ROOT / place.rstrip("`.,;|")).exists(), place
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert Path(ROOT / "docs", link).exists(), link


def test_secrets_on_the_page_are_those_that_pods_read() -> None:
    for name in {name for _, document in everything() for name in re.findall(r"prefopt-(?:s3|hub)", str(document))}:
        assert f"create secret generic {name} " in PAGE


def test_the_page_is_of_this_release() -> None:
    assert f"prefopt:{__version__}," in PAGE
    assert f"prefopt:{__version__}-cpu" in PAGE
