"""`cluster`: what cannot be together."""

import pytest

from prefopt.config import parse_config
from prefopt.errors import ConfigError


def test_a_cluster_is_not_asked_for_where_all_runs_in_one_process() -> None:
    tree = {
        "name": "kit",
        "model": {"path": "kit/model"},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "evaluate": {"rewards": ["world/true"]},
        "cluster": {"engine": "process", "submit": {"kind": "ray", "address": "http://head:8265"}},
    }
    with pytest.raises(ConfigError, match="submit sends stages to a cluster: leave one out"):
        parse_config(tree, "kit")
