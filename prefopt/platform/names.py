"""Names of jobs: DNS labels that say what runs, the same ones for the same work."""

import hashlib
import re

MOST_CHARACTERS = 47
"""Of a RayJob's name. The operator adds to it for the cluster, its services and its pods."""
_HASH_CHARACTERS = 8


def job_name(*parts: str) -> str:
    """A name from what tells a job from all others: pipeline, run, task, loop index, or a stage and its key.

    An RFC 1035 label of at most 47 characters. Where a part had to be changed or shortened, the name ends in a hash of
    the parts as they were given, so that different jobs never share a name.
    """
    if not any(parts):
        raise ValueError("a job needs a name")
    given = "-".join(part for part in parts if part)
    label = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"job-{label}".strip("-")
    if label == given and len(label) <= MOST_CHARACTERS:
        return label
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{label[: MOST_CHARACTERS - _HASH_CHARACTERS - 1].rstrip('-')}-{digest}"
