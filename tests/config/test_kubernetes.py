"""`cluster.submit` of kind kubernetes: what it refuses, and that no key knows of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt.config import RunConfig, parse_config
from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError
from prefopt.stages.keys import STAGES, Outside


def run(submit: dict[str, Any] | None) -> RunConfig:
    tree = {
        "name": "kit",
        "model": {"path": "kit/model"},
        "ingest": {"sources": [{"kind": "world", "pairs": 8}]},
        "evaluate": {"rewards": ["world/true"]},
        "cluster": {"submit": submit} if submit else {},
    }
    return parse_config(tree, "kit")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"environment": {"HF_TOKEN": "x"}}, "HF_TOKEN looks like a secret"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "looks like a secret"),
        ({"environment": {"PROXY": "http://me:hidden@proxy:80"}}, "URL with a password"),
        ({"environment": {"A-B": "x"}}, "no name of an environment variable"),
        ({"volumes": [{"claim": "c", "mount_path": "/tmp/x"}]}, "are the pod's own"),
        ({"volumes": [{"claim": "c", "mount_path": "/a"}, {"claim": "d", "mount_path": "/a/"}]}, "same mount_path"),
        ({"volumes": [{"claim": "c", "mount_path": "a"}]}, "mount_path"),
        ({"workers": {"memory_gb": 8, "shared_memory_gb": 8}}, "must be smaller"),
        ({"queue": "q", "preemptible": {"most": 4}}, "admits a RayJob as a whole"),
        ({"workers": {"number": 4}, "preemptible": {"most": 2}}, "less than workers.number 4"),
        ({"preemptible": {"autoscaler_account": "autoscaler"}}, "for a cluster that grows"),
        ({"priority": "high"}, "needs a queue"),
        ({"tolerations": [{"key": "a", "operator": "Equal"}]}, "only if, its operator is Equal"),
        ({"tolerations": [{"operator": "Equal", "value": "v"}]}, "without a key"),
        ({"namespace": "My_Team"}, "namespace"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"name_space": "team"}, "namespace"),
    ],
)
def test_what_could_not_run_is_refused_with_its_cure(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run({"kind": "kubernetes", **values})


def test_the_example_of_the_documentation_is_accepted() -> None:
    text = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    example = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert run(example["cluster"]["submit"]).cluster.submit.kind == "kubernetes"


def test_a_refusal_does_not_repeat_the_secret() -> None:
    for environment in ({"HF_TOKEN": "hidden"}, {"PROXY": "http://me:hidden@proxy:80"}):
        with pytest.raises(ConfigError) as refusal:
            run({"kind": "kubernetes", "environment": environment})
        assert "hidden" not in str(refusal.value)


def test_no_key_knows_where_a_stage_runs() -> None:
    def slices(config: RunConfig) -> dict[str, str]:
        return {name: canonical_hash(spec.slice(config, Outside((), []))) for name, spec in STAGES.items()}

    there = run({"kind": "kubernetes", "queue": "gpus", "workers": {"number": 3}, "image": "other:1"})
    assert slices(there) == slices(run(None))
