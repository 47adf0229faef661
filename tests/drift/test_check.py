"""The whole check: verdicts, false alarms, power, and a record that does not depend on the order of rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefopt.config.drift import DriftConfig
from prefopt.data.ids import row_rng
from prefopt.data.storage import Storage
from prefopt.drift import sides
from prefopt.drift.chance import Chance, Finding, Measured, Unmeasured
from prefopt.drift.check import Sides, check, judged, measured, without_champion
from prefopt.drift.people import Voters, annotator_drift
from prefopt.drift.pictures import Pictures
from prefopt.drift.records import DRIFT, Counts, Drift, SignalName, read_drift
from prefopt.errors import InputError
from tests.kit.drift import Side, Tables, make_tables, vectors

COUNTS = Counts(new=40, known=80, compared_new=40, compared_known=80)
KEY = "0" * 64
KNOWN, LIKE = Side(160), Side(80)


def both_sides(tables: Tables, rows: int = 2000) -> Sides:
    train = sides.training_pairs(tables.pairs, tables.known)
    return Sides(train, sides.sampled(train, rows, 0), tables.labels, tables.scores)


def pictures(known: int, new: int, shift: float = 0.0, seed: int = 0) -> Pictures:
    names = [f"{number:04d}" for number in range(known + new)]
    places = np.concatenate([vectors(known, 0.0, seed), vectors(new, shift, seed + 1)])
    return Pictures(names, names, np.arange(known + new) >= known, places)


def made(new: Side = LIKE, shift: float = 0.0, **config: Any) -> Drift:
    return check(DriftConfig(**config), both_sides(make_tables(KNOWN, new)), pictures(160, new.pairs, shift), KEY)


def test_like_data_give_no_warning() -> None:
    found = made()
    assert {signal.name: signal.verdict for signal in found.signals} == dict.fromkeys(
        ("prompts", "images", "annotators", "agreement", "minority"), "ok"
    )
    assert (found.action, found.warnings) == ("train", [])
    assert found.counts == Counts(new=80, known=160, compared_new=80, compared_known=160)
    assert found.sentences == ["Train: 80 new pairs are like 160 known ones, as far as was measured."]


@pytest.mark.parametrize(
    ("new", "shift", "wanted"),
    [
        (Side(80, words=("car", "bus", "road", "lamp", "door")), 0.0, {"prompts"}),
        (Side(80), 1.5, {"images"}),
        (Side(80, groups=("one", "one", "one", "two")), 0.0, set()),
        (Side(80, groups=("three",)), 0.0, {"annotators"}),
        (Side(80, flipped=0.5), 0.0, {"agreement", "minority"}),
    ],
)
def test_each_change_is_told_by_its_signals(new: Side, shift: float, wanted: set[str]) -> None:
    found = made(new=new, shift=shift)
    assert {signal.name for signal in found.warnings} == wanted
    assert found.action == "train"


def test_a_signal_beyond_its_bound_holds_the_night() -> None:
    found = made(new=Side(80, flipped=0.5), agreement={"warn": 0.1, "hold": 0.2})
    assert found.action == "hold"
    assert found.sentences[0].startswith("Hold: nothing is trained, because of agreement. Look at the new pairs.")
    assert "retrain.drift.agreement.hold" in found.sentences[0]
    assert any("beyond 0.2, where nothing is trained" in sentence for sentence in found.sentences[1:])


def few_p(value: float, p: float) -> Measured:
    return Measured(value, p, 80, 40, {"known": 0.8, "new": 0.8 - value})


def test_p_is_corrected_for_the_measured_signals_alone() -> None:
    """Three tests: 0.004 x 3, and 0.001 x 3; with a bound of 0.01 the first is chance."""
    findings: dict[SignalName, Finding] = {
        "images": Unmeasured("why"),
        "annotators": Unmeasured("why"),
        "prompts": few_p(0.5, 0.9),
        "agreement": few_p(0.5, 0.001),
        "minority": few_p(0.5, 0.006),
    }
    signals = {one.name: one for one in judged(DriftConfig(), findings, COUNTS, KEY).signals}
    assert signals["agreement"].corrected_p == pytest.approx(0.003)
    assert signals["minority"].corrected_p == pytest.approx(0.012)
    assert {name: one.verdict for name, one in signals.items()} == {
        "images": "not_measured",
        "annotators": "not_measured",
        "prompts": "ok",
        "agreement": "warn",
        "minority": "ok",
    }
    assert "may be chance" in signals["minority"].sentence
    assert signals["images"].sentence == "Images were not compared: why."


def test_a_bound_is_reached_and_not_only_crossed() -> None:
    config = DriftConfig.model_validate({"agreement": {"warn": 0.1, "hold": 0.3}})
    for value, verdict in ((0.09, "ok"), (0.1, "warn"), (0.29, "warn"), (0.3, "hold"), (-0.5, "ok")):
        (signal,) = judged(config, {"agreement": few_p(value, 0.001)}, COUNTS, KEY).signals
        assert signal.verdict == verdict


def test_false_alarms_are_as_rare_as_p_says() -> None:
    """200 trials of like data: p-values are neither too small nor useless."""
    trials, low, high = 200, [0] * 5, [0] * 5
    quick = DriftConfig.model_construct(**{**DriftConfig().__dict__, "permutations": 99})
    for trial in range(trials):
        found = measured(
            quick, both_sides(make_tables(Side(60), Side(30), seed=trial)), pictures(60, 30, seed=2 * trial)
        )
        for at, one in enumerate(found.values()):
            assert isinstance(one, Measured)
            low[at] += one.p <= 0.05
            high[at] += one.p <= 0.5
    allowed = 0.05 * trials + 3.0 * np.sqrt(trials * 0.05 * 0.95)
    assert max(low) <= allowed
    assert min(high) >= 0.3 * trials


def test_busy_annotators_of_a_night_raise_no_alarm() -> None:
    """Each annotator is more or less busy every night: votes are no sample of their own, annotators are."""
    rng, low = row_rng(0, "busy"), 0
    for trial in range(200):
        busy = [rng.gamma(0.7, 1.0, 24) for _ in range(2)]
        who = np.concatenate([rng.choice(24, size=n, p=of / of.sum()) for n, of in zip((400, 80), busy, strict=True)])
        names, groups = [f"{one}" for one in who], [f"{one % 3}" for one in who]
        found = annotator_drift(Voters(names, groups, np.arange(480) >= 400, 0.0), Chance(99, trial))
        assert isinstance(found, Measured)
        low += found.p <= 0.05
    assert low <= 0.05 * 200 + 3.0 * np.sqrt(200 * 0.05 * 0.95)


def test_the_order_of_rows_does_not_matter() -> None:
    tables, places = make_tables(Side(90), Side(50, flipped=0.3)), pictures(90, 50, 0.4)
    turned = Pictures(places.prompts[::-1], places.pairs[::-1], places.new[::-1], places.vectors[::-1])
    first = check(DriftConfig(), both_sides(tables), places, KEY)
    assert check(DriftConfig(), both_sides(tables.turned()), turned, KEY).encoded() == first.encoded()


def test_at_most_so_many_pairs_of_each_side_are_compared() -> None:
    tables = make_tables(Side(90), Side(50))
    data = both_sides(tables, rows=30)
    assert data.counts == Counts(new=50, known=90, compared_new=30, compared_known=30)
    assert data.compared.equals(both_sides(tables.turned(), rows=30).compared)
    assert set(both_sides(tables, 29).compared["pair_id"].to_pylist()) < set(data.compared["pair_id"].to_pylist())
    known, new = sides.sampled_prompts(data.train, 40, 0)
    assert (len(known), len(new)) == (40, 40)


def test_prompts_are_normalised_and_other_splits_left_out() -> None:
    tables = make_tables(Side(2), Side(1))
    pairs = tables.pairs.to_pylist()
    pairs[0]["prompt"], pairs[1]["split"] = "  A  Red CAT. ", "test"
    train = sides.training_pairs(pa.Table.from_pylist(pairs, schema=tables.pairs.schema), tables.known)
    assert train["prompt"].to_pylist()[0] == "a red cat"
    assert train["new"].to_pylist() == [False, True]


def scored(label: float, **score: float | None) -> tuple[pa.Table, pa.Table]:
    tables = make_tables(Side(1), Side(1))
    labels, scores = tables.labels.to_pylist(), tables.scores.to_pylist()
    labels[0]["label"] = label
    scores[0] |= score
    for row in scores[1:]:
        row |= {name: None for name, value in score.items() if value is None}
    train = sides.training_pairs(tables.pairs, tables.known)
    votes = sides.votes_of(pa.Table.from_pylist(labels, schema=tables.labels.schema), train)
    return votes.filter(pa.array([not new for new in votes["new"].to_pylist()])), pa.Table.from_pylist(
        scores, schema=tables.scores.schema
    )


@pytest.mark.parametrize(
    ("label", "score", "wanted"),
    [
        (1.0, {"alpha": 0.6, "panel_majority": 0.0}, [1.0]),
        (0.0, {"alpha": 0.6}, [0.0]),
        (0.0, {"alpha": 0.4}, [1.0]),
        (0.5, {"alpha": 0.4}, []),
        (1.0, {"alpha": 0.5}, []),
        (0.0, {"alpha": None, "panel_majority": 0.0}, [1.0]),
        (1.0, {"alpha": None, "panel_majority": 0.5}, []),
    ],
)
def test_labels_agree_with_alpha_or_else_with_the_majority(
    label: float, score: dict[str, float | None], wanted: list[float]
) -> None:
    found = sides.agreement(*scored(label, **score))
    assert found is not None
    assert found.values.tolist() == wanted


def test_u_is_that_of_the_label() -> None:
    for label, wanted in ((1.0, [0.3]), (0.0, [pytest.approx(0.5)]), (0.5, [])):
        found = sides.minority(*scored(label, u=0.3, stability=0.8))
        assert found is not None
        assert found.values.tolist() == wanted


def test_without_a_panel_or_alpha_their_signals_are_not_measured() -> None:
    tables = make_tables(Side(60), Side(40))
    empty = pa.table(
        {
            name: tables.scores[name] if name == "pair_id" else pa.nulls(100, tables.scores[name].type)
            for name in tables.scores.column_names
        }
    )
    found = check(DriftConfig(), both_sides(replace(tables, scores=empty)), pictures(60, 40), KEY)
    assert {signal.name for signal in found.signals if signal.verdict == "not_measured"} == {"agreement", "minority"}
    assert (
        "Agreement was not compared: there is neither alpha nor a panel (score.alpha, score.panel)." in found.sentences
    )


def test_the_share_of_votes_by_strangers() -> None:
    tables = make_tables(Side(60, annotators=3), Side(40, annotators=6))
    data = both_sides(tables, rows=20)
    votes = sides.votes_of(tables.labels, data.train)
    late = [row["annotator"] for row in votes.to_pylist() if row["new"]]
    strangers = sum(name in ("person 3", "person 4", "person 5") for name in late)
    found = sides.voters(votes, data.compared)
    assert found.unseen == pytest.approx(strangers / 40)
    assert len(found.annotators) == 40


def test_records_are_read_back(tmp_path: Path) -> None:
    storage, found = Storage(str(tmp_path)), made(new=Side(30))
    storage.write_bytes(DRIFT, found.encoded())
    assert read_drift(storage) == found
    none = without_champion(7)
    storage.write_bytes(DRIFT, none.encoded())
    assert read_drift(storage) == none
    assert (none.action, none.known, none.signals, none.counts.new) == ("train", None, [], 7)
    assert none.sentences == ["Train: there is no champion yet, so that there is nothing to compare new pairs with."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "has schema_version 2, and this prefopt reads 1"),
        ({"action": "hold"}, "action hold does not follow from the signals"),
        ({"more": 1}, r"is damaged \(more: Extra inputs"),
        ({"counts": {"new": -1, "known": 0, "compared_new": 0, "compared_known": 0}}, r"counts\.new"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    storage = Storage(str(tmp_path))
    storage.write_bytes(DRIFT, json.dumps({**json.loads(without_champion(3).encoded()), **change}).encode())
    with pytest.raises(InputError, match=rf"The drift check .*drift\.json .*{message}.*: run the drift stage again"):
        read_drift(storage)
    storage.write_bytes(DRIFT, b"{")
    with pytest.raises(InputError, match="is damaged"):
        read_drift(storage)


def test_a_p_that_no_test_can_reach_is_refused() -> None:
    with pytest.raises(ValidationError, match="raise permutations to 500 or more"):
        DriftConfig(permutations=400)
    assert DriftConfig(permutations=500).permutations == 500
    assert DriftConfig(permutations=200, p=0.05).p == 0.05
