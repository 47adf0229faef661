"""Files of a hub repository at one commit, in the hub's own cache of this machine."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from prefopt.errors import InputError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAIN = "main"


def is_commit(revision: str | None) -> bool:
    """Whether a revision names one state of a repository for ever."""
    return bool(revision and _COMMIT.fullmatch(revision))


def resolve(repository: str, revision: str | None, field: str) -> str:
    """The commit that a revision stands for: as it is, from the hub, or from its cache where the hub is not reached.

    InputError, naming the field, if neither tells.
    """
    if revision is not None and is_commit(revision):
        return revision
    trouble = "HF_HUB_OFFLINE forbids to ask"
    if not constants.HF_HUB_OFFLINE:
        try:
            commit = HfApi().model_info(repository, revision=revision).sha
            if commit:
                return commit
            trouble = "the hub names no commit"
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
            trouble = " ".join(str(error).split())[:200]
    known = _repository(repository) / "refs" / (revision or _MAIN)
    if known.is_file():
        return known.read_text().strip()
    raise InputError(
        f"{field}: which commit {repository}@{revision or _MAIN} is cannot be found out ({trouble}). Name the commit"
        " (owner/name@commit), or fetch the files and name their directory."
    )


def cached(repository: str, commit: str) -> Path | None:
    """The directory of a commit's files, as far as they are in the cache; None if there is nothing."""
    place = _repository(repository) / "snapshots" / commit
    return place if place.is_dir() else None


def fetch(repository: str, commit: str, names: Sequence[str], field: str) -> Path:
    """The directory of a commit's files, with those of `names` that the repository has. Safe for several processes.

    InputError, naming the field, if they are not cached and cannot be fetched.
    """
    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=list(names)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{field}: cannot fetch {', '.join(names)} of {repository} at commit {commit}: {detail}. Fetch them on a"
            f" machine that reaches the hub, and set {field} to their directory."
        ) from error


def _repository(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
