"""Checks from inside a cluster: do its nodes agree, do they reach each other, can they write where a run writes?"""

import os
import platform
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from prefopt import __version__
from prefopt.data.ids import canonical_hash
from prefopt.data.storage import Storage
from prefopt.doctor.report import Check, ok, problem, warning
from prefopt.errors import PrefoptError

_SECONDS = 60.0
"""For nodes to answer, and for a collective."""


@dataclass(frozen=True)
class Node:
    """What runs on a node of the cluster."""

    host: str
    gpus: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    """Of what must be the same on all nodes."""


def probe(places: dict[str, str]) -> Iterator[Check]:
    """All checks, in the Ray that this process is connected to. `places` are directories and prefixes by name."""
    for name, uri in places.items():
        yield check_storage(name, uri)
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not alive:
        yield problem("nodes", "No node of the cluster offers a CPU.", "Add workers, or give them CPUs.")
        return
    nodes, silent = _ask_nodes(alive)
    yield check_nodes(nodes, silent)
    yield check_node_gpus(nodes, [int(node["Resources"].get("GPU", 0)) for node in alive])
    yield check_collectives(len(alive), gpus=all(node["Resources"].get("GPU", 0) >= 1 for node in alive))


def check_storage(name: str, uri: str) -> Check:
    """Whether a file can be written, read back, created once only and deleted."""
    storage, file = Storage(uri), f".prefopt-doctor-{canonical_hash([platform.node(), uri])[:12]}"
    try:
        storage.write_bytes(file, b"first")
        if storage.read_bytes(file) != b"first":
            return problem(name, f"{uri} gives back other bytes than were written.", "Use another store.")
        once = not storage.create(file, b"second")
        tagged = storage.read_tagged(file)
        guarded = storage.replace(file, b"third", "0" * 32) is None
        replaced = tagged is not None and storage.replace(file, b"third", tagged[1]) is not None
        storage.delete(file)
    except (PrefoptError, OSError) as error:
        return problem(
            name,
            f"{uri} cannot be used: {' '.join(str(error).split())}",
            "Check the bucket, the rights (get, put, delete, list) and the endpoint of the cluster's credentials.",
        )
    if not (once and guarded and replaced):
        return warning(
            name,
            f"{uri} can be read and written, but does not honour conditional writes (If-None-Match, If-Match).",
            "A registry of champions there could lose a decision: put retrain.registry on a store that does.",
        )
    return ok(name, f"{uri} can be read and written, conditionally too.")


def check_nodes(nodes: Sequence[Node], silent: int) -> Check:
    """Whether all nodes have the same versions."""
    name = "nodes"
    if silent:
        return problem(
            name,
            f"{silent} of {silent + len(nodes)} nodes gave no answer within {_SECONDS:g} s.",
            "They are gone, or run an image without this prefopt: kubectl describe pod, and use one image.",
        )
    mine = _versions()
    wrong = sorted(
        f"{node.host}: {library} {found}"
        for node in nodes
        for library, found in node.versions
        if found != dict(mine)[library]
    )
    if wrong:
        return problem(
            name,
            f"Not all nodes run what this one does ({_listed(mine)}): {'; '.join(wrong)}.",
            "Use the same image for component, head and workers.",
        )
    return ok(name, f"{len(nodes)} with the same versions: {_listed(mine)}.")


def check_node_gpus(nodes: Sequence[Node], promised: Sequence[int]) -> Check:
    """Whether torch sees the GPUs that Ray counts."""
    name, seen = "node GPUs", sum(len(node.gpus) for node in nodes)
    if seen < sum(promised):
        return problem(
            name,
            f"Ray counts {sum(promised)} GPUs, and torch sees {seen}.",
            "The image lacks CUDA, or the nodes lack a driver that fits it.",
        )
    kinds = sorted({gpu for node in nodes for gpu in node.gpus})
    return ok(name, f"{seen}: {', '.join(kinds)}." if seen else "None.")


def check_collectives(nodes: int, *, gpus: bool) -> Check:
    """Whether one process on each node can sum with all others."""
    name, backend = "collectives", "nccl" if gpus else "gloo"
    group: PlacementGroup = placement_group(
        [{"CPU": 1.0, **({"GPU": 1.0} if gpus else {})}] * nodes, strategy="STRICT_SPREAD"
    )
    try:
        ray.get(group.ready(), timeout=_SECONDS)
        members = [_member(group, index, gpus) for index in range(nodes)]
        address = ray.get(members[0].address.remote(), timeout=_SECONDS)
        sums = ray.get(
            [member.total.remote(backend, rank, nodes, address) for rank, member in enumerate(members)],
            timeout=_SECONDS,
        )
    except ray.exceptions.GetTimeoutError:
        return problem(
            name,
            f"{nodes} nodes did not sum a number by {backend} within {_SECONDS:g} s.",
            "Other work holds the CPUs, or a network policy keeps the pods apart: workers must reach each other on"
            " all ports. For nccl see NCCL_DEBUG=INFO and NCCL_SOCKET_IFNAME.",
        )
    except ray.exceptions.RayError as error:
        cause = str(error).strip().splitlines()[-1]
        return problem(name, f"{backend} failed: {cause[:300]}", "Look at the workers' logs.")
    finally:
        remove_placement_group(group)
    expected = nodes * (nodes + 1) / 2
    if any(total != expected for total in sums):
        return problem(name, f"{backend} summed {sums} where {expected:g} is right.", "Do not train on these nodes.")
    return ok(name, f"{nodes} {'nodes sum' if nodes > 1 else 'node sums'} by {backend}.")


def _ask_nodes(alive: Sequence[dict[str, Any]]) -> tuple[list[Node], int]:
    asked = [
        ray.remote(num_cpus=0)(_look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in alive
    ]
    done, waiting = ray.wait(asked, num_returns=len(asked), timeout=_SECONDS)
    answers = [_answer(one) for one in done]
    return [node for node in answers if node], len(waiting) + answers.count(None)


def _answer(asked: Any) -> Node | None:
    """None if the node is gone, or has no prefopt that understands the question."""
    try:
        found: Node = ray.get(asked)
    except ray.exceptions.RayError:
        return None
    return found


def _look() -> Node:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]  # Ray hides the GPUs of the pod from tasks that reserve none
    import torch

    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Node(platform.node(), gpus, _versions())


def _versions() -> tuple[tuple[str, str], ...]:
    libraries = ("ray", "torch", "diffusers")
    return (
        ("prefopt", __version__),
        ("python", platform.python_version()),
        *((one, version(one)) for one in libraries),
    )


def _listed(versions: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{library} {found}" for library, found in versions)


def _member(group: PlacementGroup, index: int, gpus: bool) -> Any:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    return ray.remote(_Member).options(num_cpus=1, num_gpus=int(gpus), scheduling_strategy=strategy).remote()


class _Member:
    """A process on one node, in a collective over all of them."""

    def address(self) -> str:
        """Where the first one waits for the others."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def total(self, backend: str, rank: int, world: int, address: str) -> float:
        """The sum of all ranks, each counted from 1."""
        import torch
        import torch.distributed as dist

        dist.init_process_group(backend, init_method=address, rank=rank, world_size=world)
        mine = torch.tensor([rank + 1.0], device="cuda" if backend == "nccl" else "cpu")
        dist.all_reduce(mine)
        dist.destroy_process_group()
        return float(mine)
