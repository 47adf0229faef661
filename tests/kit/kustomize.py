"""Builds k8s/ as kustomize does, for the part of kustomize that k8s/ uses. Whatever else stands there is refused.

That part: `resources` (files and directories), `nameSuffix`, `labels` (pairs, not in selectors), `images` (newName,
newTag), `configMapGenerator` (files, names without a hash), and `patches` with a target's kind and maybe its name, a
regular expression: lists of JSON patch operations, inline or from a file, and `$patch: delete`.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Document = dict[str, Any]
_KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "nameSuffix",
    "labels",
    "images",
    "configMapGenerator",
    "patches",
}


def build(directory: Path) -> list[Document]:
    """The documents of a kustomization. ValueError for what this builder does not know."""
    tree = yaml.safe_load((directory / "kustomization.yaml").read_text())
    _only(tree, _KNOWN, str(directory))
    for entry in tree.get("labels", []):
        _only(entry, {"pairs"}, "labels")
    documents = [document for name in tree.get("resources", []) for document in _resource(directory / name)]
    documents += [_config_map(directory, entry) for entry in tree.get("configMapGenerator", [])]
    for entry in tree.get("patches", []):
        documents = _patched(directory, documents, entry)
    for document in documents:
        document["metadata"]["name"] += tree.get("nameSuffix", "")
        for entry in tree.get("labels", []):
            document["metadata"].setdefault("labels", {}).update(entry["pairs"])
        for entry in tree.get("images", []):
            _rename_images(document, entry)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    if len(set(names)) < len(names):
        raise ValueError(f"{directory}: two documents of one kind and name")
    return documents


def _resource(path: Path) -> list[Document]:
    if path.is_dir():
        return build(path)
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _config_map(directory: Path, entry: Document) -> Document:
    _only(entry, {"name", "namespace", "files", "options"}, "configMapGenerator")
    if entry.get("options") != {"disableNameSuffixHash": True}:
        raise ValueError("configMapGenerator: only names without a hash are known")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": entry["name"], "namespace": entry["namespace"]},
        "data": {name: (directory / name).read_text() for name in entry["files"]},
    }


def _patched(directory: Path, documents: list[Document], entry: Document) -> list[Document]:
    _only(entry, {"target", "patch", "path"}, "patches")
    _only(entry["target"], {"kind", "name"}, "patches.target")
    patch = yaml.safe_load(entry["patch"] if "patch" in entry else (directory / entry["path"]).read_text())
    targets = [document for document in documents if _meets(document, entry["target"])]
    if not targets:
        raise ValueError(f"{directory}: a patch has no target: {entry['target']}")
    if isinstance(patch, dict):
        if patch.get("$patch") != "delete" or not _only_names(patch):
            raise ValueError("patches: only lists of JSON patch operations and $patch: delete are known")
        gone = [one for one in targets if one["metadata"]["name"] == patch["metadata"]["name"]]
        return [document for document in documents if not any(document is one for one in gone)]
    return [
        jsonpatch.apply_patch(document, copy.deepcopy(patch)) if _meets(document, entry["target"]) else document
        for document in documents
    ]


def _only_names(patch: Document) -> bool:
    return patch.keys() == {"$patch", "apiVersion", "kind", "metadata"}


def _meets(document: Document, target: Document) -> bool:
    name = document["metadata"]["name"]
    return document["kind"] == target["kind"] and bool(re.fullmatch(target.get("name", ".*"), name))


def _rename_images(document: Document, entry: Document) -> None:
    _only(entry, {"name", "newName", "newTag"}, "images")
    for container in containers(document):
        name, _, tag = container["image"].partition(":")
        if name == entry["name"]:
            container["image"] = f"{entry.get('newName', name)}:{entry.get('newTag', tag)}"


def containers(node: Any) -> Iterator[Document]:
    """Every container of every pod below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def _only(tree: Document, known: set[str], where: str) -> None:
    unknown = tree.keys() - known
    if unknown:
        raise ValueError(f"{where}: this builder does not know {', '.join(sorted(unknown))}")
