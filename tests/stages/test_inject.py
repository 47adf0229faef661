from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefopt.data.schema import LABELS, TRUTH
from prefopt.errors import InputError
from prefopt.stages.base import StageOutput
from tests.kit.data import (
    StopAfter,
    StopAfterError,
    distinct,
    fingerprint,
    judgement,
    run_stages,
    small_config,
    table,
    write_parquet,
)

STAGES = ("ingest", "inject")
WORLD = {"kind": "world", "pairs": 80, "seed": 1}


def stages(
    place: Path, flips: list[dict[str, Any]], source: dict[str, Any] = WORLD, **branches: Any
) -> dict[str, StageOutput]:
    inject = {"flips": flips, **branches.pop("inject", {})}
    return run_stages(small_config(place, [source], inject=inject, **branches), place / "run", STAGES)


class Injected:
    """Votes, labels and truth of a run, by vote."""

    def __init__(self, outputs: dict[str, StageOutput]) -> None:
        self.votes = {row["vote_id"]: row for row in table(outputs["ingest"], "votes-")}
        self.labels = {row["vote_id"]: row for row in table(outputs["inject"], "labels-")}
        self.truth = {row["vote_id"]: row for row in table(outputs["inject"], "truth-")}
        self.split = {row["pair_id"]: row["split"] for row in table(outputs["ingest"], "pairs-")}
        self.flipped = {vote for vote, row in self.truth.items() if row["flipped"]}
        self.eligible = {
            vote for vote, row in self.votes.items() if row["label"] != 0.5 and self.split[row["pair_id"]] != "test"
        }


def test_labels_are_the_votes_with_some_turned_round(tmp_path: Path) -> None:
    outputs = stages(tmp_path, [{"kind": "symmetric", "rate": 0.3}])
    run = Injected(outputs)
    assert run.labels.keys() == run.votes.keys() == run.truth.keys()
    for vote, row in run.labels.items():
        given = run.votes[vote]
        assert row["label"] == (1.0 - given["label"] if vote in run.flipped else given["label"])
        assert {name: row[name] for name in given if name != "label"} == {
            n: v for n, v in given.items() if n != "label"
        }
        assert run.truth[vote]["group"] == given["group"]
    manifest = outputs["inject"].manifest
    assert manifest.rows.in_ == manifest.rows.out == len(run.votes)
    assert manifest.summary == {"eligible": len(run.eligible), "flipped": len(run.flipped)}


def test_the_tables_have_their_columns_and_training_sees_no_truth(tmp_path: Path) -> None:
    outputs = stages(tmp_path, [{"kind": "symmetric", "rate": 0.3}])
    output = outputs["inject"]
    assert output.storage.read_table("labels-00000.parquet").schema == LABELS
    assert output.storage.read_table("truth-00000.parquet").schema == TRUTH
    run = Injected(outputs)
    seen = {run.labels[vote]["flipped_by"] for vote in run.eligible}
    assert seen == {"symmetric"}


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_the_symmetric_count_is_exact_and_spares_test_and_ties(tmp_path: Path, rate: float) -> None:
    run = Injected(stages(tmp_path, [{"kind": "symmetric", "rate": rate}]))
    assert len(run.flipped) == round(rate * len(run.eligible))
    assert run.flipped <= run.eligible
    assert any(split == "test" for split in run.split.values())


def test_the_chosen_splits_are_flipped(tmp_path: Path) -> None:
    run = Injected(stages(tmp_path, [{"kind": "symmetric", "rate": 0.5}], inject={"splits": ["test"]}))
    assert run.flipped
    assert {run.split[run.votes[vote]["pair_id"]] for vote in run.flipped} == {"test"}


def test_no_flips_pass_the_votes_through(tmp_path: Path) -> None:
    run = Injected(stages(tmp_path, []))
    assert not run.flipped
    assert {vote: row["label"] for vote, row in run.labels.items()} == {v: row["label"] for v, row in run.votes.items()}


def test_each_group_has_its_own_exact_rate(tmp_path: Path) -> None:
    groups = {"a": 40, "b": 30, "c": 20}
    rows = [
        judgement(f"{group} {n}", 1000 * k + 2 * n, 1000 * k + 2 * n + 1, 1.0, f"user {n}", team=group)
        for k, (group, count) in enumerate(groups.items())
        for n in range(count)
    ]
    path = write_parquet(tmp_path / "x.parquet", rows)
    source = {"kind": "pickapic", "path": str(path), "group_column": "team"}
    flips = [{"kind": "group", "rates": {"a": 0.5, "b": 0.1}}]
    run = Injected(stages(tmp_path, flips, source))
    for group, rate in {"a": 0.5, "b": 0.1, "c": 0.0}.items():
        votes = {vote for vote in run.eligible if run.votes[vote]["group"] == group}
        assert len(votes & run.flipped) == round(rate * len(votes))


def test_a_group_that_nobody_belongs_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inject\.flips\.0 names the annotator group nobody"):
        stages(tmp_path, [{"kind": "group", "rates": {"nobody": 1.0}}])


def test_two_entries_that_hit_the_same_vote_undo_each_other(tmp_path: Path) -> None:
    run = Injected(stages(tmp_path, [{"kind": "symmetric", "rate": 1.0}] * 2))
    assert not run.flipped
    half = Injected(stages(tmp_path, [{"kind": "symmetric", "rate": 1.0}, {"kind": "symmetric", "rate": 0.25}]))
    assert len(half.flipped) == len(half.eligible) - round(0.25 * len(half.eligible))


def test_gap_flips_prefer_close_pairs(tmp_path: Path) -> None:
    gap = {"kind": "gap", "rate": 0.9, "reward": "world/style", "scale": 0.1}
    source = {**WORLD, "pairs": 100}
    outputs = stages(tmp_path, [gap], source)
    run = Injected(outputs)
    assert run.flipped <= run.eligible
    from prefopt.data.storage import Storage
    from prefopt.data.tables import read_tables
    from prefopt.distributed.costly import CostlyRows
    from tests.kit.data import quiet

    config = small_config(tmp_path, [source])
    costly = CostlyRows(config, (), Storage(config.store), Storage(str(tmp_path / "none")), quiet)
    pairs = read_tables(outputs["ingest"], "pairs-")
    gaps = np.abs(np.subtract(*costly.reward_scores(pairs, ("world/style",))["world/style"]))
    by_pair = dict(zip(pairs["pair_id"].to_pylist(), gaps.tolist(), strict=True))
    chances = {vote: 0.9 * np.exp(-by_pair[run.votes[vote]["pair_id"]] / 0.1) for vote in run.eligible}
    expected, spread = sum(chances.values()), np.sqrt(sum(p * (1 - p) for p in chances.values()))
    assert abs(len(run.flipped) - expected) < 4 * spread
    flipped = np.mean([by_pair[run.votes[vote]["pair_id"]] for vote in run.flipped])
    others = np.mean([by_pair[run.votes[vote]["pair_id"]] for vote in run.eligible - run.flipped])
    assert flipped < others


def test_flips_do_not_depend_on_workers_or_shards_or_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    flips = [{"kind": "symmetric", "rate": 0.37}]
    one = Injected(stages(tmp_path / "one", flips))
    stages(tmp_path / "two", flips, cluster={"engine": "ray", "workers": 2})
    assert fingerprint(tmp_path / "one" / "run") == fingerprint(tmp_path / "two" / "run")
    monkeypatch.setattr("prefopt.stages.ingest.BUCKET_VOTES", 25)
    config = small_config(tmp_path / "many", [WORLD], inject={"flips": flips})
    run_stages(config, tmp_path / "many" / "run")
    for what, units in (("count-0", 1), ("boundary-0", 2), ("labels", 1)):
        with pytest.raises(StopAfterError):
            run_stages(config, tmp_path / "many" / "run", STAGES, StopAfter(what, units))
    outputs = run_stages(config, tmp_path / "many" / "run", STAGES)
    assert len(outputs["inject"].manifest.files_like("labels-")) > 2
    many = Injected(outputs)
    assert many.flipped == one.flipped
    assert many.labels == one.labels


def test_seeds_flip_others_and_have_keys_of_their_own(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", distinct(60))
    source = {"kind": "pickapic", "path": str(path)}
    outputs = [stages(tmp_path, [{"kind": "symmetric", "rate": 0.3}], source, inject={"seed": seed}) for seed in (0, 1)]
    first, second = (Injected(output) for output in outputs)
    assert first.flipped != second.flipped
    assert len(first.flipped) == len(second.flipped)
    assert outputs[0]["inject"].manifest.key != outputs[1]["inject"].manifest.key
    assert outputs[0]["ingest"].manifest.key == outputs[1]["ingest"].manifest.key
