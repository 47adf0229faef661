from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from prefopt.config import RunConfig
from prefopt.data.tables import read_tables
from prefopt.distributed.training.plan import join_plan
from prefopt.errors import InputError
from tests.kit.models import tiny_pipeline
from tests.kit.training import PROMPTS, training_config, training_context

Tables = tuple[pa.Table, pa.Table, pa.Table]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("plan")
    return training_config(tiny_pipeline(root / "model"), root / "store")


def _tables(directory: Path, config: RunConfig, **options: Any) -> Tables:
    parents = training_context(directory, config, **options).parents
    score = parents["score"]
    return read_tables(score, "visits-"), read_tables(parents["ingest"], "pairs-"), read_tables(score, "scores-")


def test_side_inputs_are_turned_to_each_label(tmp_path: Path, config: RunConfig) -> None:
    visits, pairs, scores = _tables(tmp_path, config)
    plan, prompts = join_plan(visits, pairs, scores, config.train)
    by_pair = {row["pair_id"]: row for row in scores.to_pylist()}
    prompt_of = {row["pair_id"]: row["prompt"] for row in pairs.to_pylist()}
    rows = plan.to_pylist()
    assert {row["label"] for row in rows} == {0.0, 1.0}
    for row in rows:
        score = by_pair[row["pair_id"]]
        first = row["label"] == 1.0
        assert row["alpha"] == pytest.approx(score["alpha"] if first else 1 - score["alpha"])
        assert row["u"] == pytest.approx(score["u"] if first else score["stability"] - score["u"])
        assert prompts[row["prompt"]] == prompt_of[row["pair_id"]]
    assert sorted(prompts) == sorted(PROMPTS)
    assert plan.select(visits.column_names).equals(visits)


def test_pairs_of_another_split_are_refused(tmp_path: Path, config: RunConfig) -> None:
    visits, pairs, scores = _tables(tmp_path, config, split="test")
    with pytest.raises(InputError, match="of the test split"):
        join_plan(visits, pairs, scores, config.train)


def test_unknown_pairs_are_refused(tmp_path: Path, config: RunConfig) -> None:
    visits, pairs, scores = _tables(tmp_path, config)
    with pytest.raises(InputError, match="do not hold"):
        join_plan(visits, pairs.slice(1), scores, config.train)


def test_ties_are_refused(tmp_path: Path, config: RunConfig) -> None:
    visits, pairs, scores = _tables(tmp_path, config)
    place = visits.schema.get_field_index("label")
    labels = [0.5, *visits["label"].to_pylist()[1:]]
    with pytest.raises(InputError, match="is a tie"):
        join_plan(visits.set_column(place, "label", pa.array(labels)), pairs, scores, config.train)


def test_a_plan_of_another_length_is_refused(tmp_path: Path, config: RunConfig) -> None:
    visits, pairs, scores = _tables(tmp_path, config)
    with pytest.raises(InputError, match="planned 47 visits, but training makes 48"):
        join_plan(visits.slice(1), pairs, scores, config.train)


@pytest.mark.parametrize(
    ("objective", "missing"),
    [
        ({"name": "smpo"}, "score.alpha"),
        ({"name": "adaptive_dpo", "u": {"source": "offline"}}, "score.panel"),
        ({"name": "adaptive_dpo", "u": {"source": "product"}}, "score.panel"),
        ({"name": "adaptive_dpo"}, None),
        ({"name": "dpo"}, None),
    ],
)
def test_missing_side_inputs_matter_only_to_objectives_that_read_them(
    tmp_path: Path, config: RunConfig, objective: dict[str, Any], missing: str | None
) -> None:
    train = type(config.train).model_validate({**config.train.model_dump(), "objective": objective})
    visits, pairs, scores = _tables(tmp_path, config, scored=False)
    if missing is None:
        plan, _ = join_plan(visits, pairs, scores, train)
        assert plan["u"].null_count == plan.num_rows
    else:
        with pytest.raises(InputError, match=missing):
            join_plan(visits, pairs, scores, train)
