"""What a report says about where its figures come from. No paths of this machine, no times."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import yaml

from prefopt.config import RunConfig, evaluate, score, train
from prefopt.data.manifest import Manifest

MOST_FILES = 50
"""Source files that a report lists."""
_SOURCE_PLACES = ("path", "images")
_MODEL_PLACES = (("model", "path"), ("model", "vae"), ("train", "init_from"), ("train", "reference_from"))
_LEFT_OUT: dict[str, Any] = {
    **dict.fromkeys(("name", "store", "cluster", "rewards"), True),
    "score": set(score.OUTSIDE_KEYS),
    "train": set(train.OUTSIDE_KEYS),
    "evaluate": set(evaluate.OUTSIDE_KEYS),
}


def display_name(path: str) -> str:
    """A model or source as a report names it: a hub id or relative path as it is, another place by its last part."""
    if "://" in path or path.startswith(("/", ".", "~")):
        return PurePosixPath(path.rstrip("/")).name or path
    return path


def shown_config(config: RunConfig, *, tuned_here: bool = True) -> str:
    """The config as YAML, without what cannot change a result: names, places, workers, sizes of work units; and
    without the branches of stages that took no part."""
    tree: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude=_LEFT_OUT)
    for branch, name in _MODEL_PLACES:
        if tree[branch][name] is not None:
            tree[branch][name] = display_name(tree[branch][name])
    if tree["score"]["panel"]:
        tree["score"]["panel"]["snapshots"] = list(map(display_name, tree["score"]["panel"]["snapshots"]))
    for source in tree["ingest"]["sources"]:
        for place in _SOURCE_PLACES:
            if isinstance(source.get(place), str):
                source[place] = display_name(source[place])
    for chosen in tree["evaluate"]["prompt_sets"]:
        if "path" in chosen:
            chosen["path"] = display_name(chosen["path"])
    negative = tree["evaluate"]["negative"]
    if negative:
        negative["weights_from"] = display_name(negative["weights_from"])
    features = tree["evaluate"]["features"] or {}
    if "weights" in features:
        features["weights"] = display_name(features["weights"])
    tree["evaluate"]["models"] = {name: display_name(place) for name, place in tree["evaluate"]["models"].items()}
    if not tuned_here:
        tree = {name: branch for name, branch in tree.items() if name in ("model", "evaluate")}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=False, width=88)


def stage_rows(manifests: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """One row per finished stage, in order: key, rows and files."""
    return [
        {
            "stage": name,
            "key": manifest.key[:12],
            "code_version": manifest.code_version,
            "unit": manifest.unit,
            "rows": manifest.rows,
            "files": len(manifest.files),
            "bytes": sum(entry.bytes for entry in manifest.files),
            "parents": [f"{parent} {key[:12]}" for parent, key in sorted(manifest.parents.items())],
        }
        for name, manifest in manifests.items()
    ]


def source_rows(files: pa.Table) -> dict[str, Any]:
    """The files that ingest read (SOURCES): how many, their bytes, and the first of them."""
    return {
        "files": files.num_rows,
        "bytes": sum(files["bytes"].to_pylist()),
        "first": files.slice(0, MOST_FILES).to_pylist(),
    }


def environments(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Library versions and CPU kind; where stages differ, every value is named."""
    found: dict[str, list[str]] = {}
    for manifest in manifests.values():
        for name, version in manifest.environment.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return {name: ", ".join(versions) for name, versions in sorted(found.items())}
