import csv
import io
import json
from pathlib import Path

import pytest

from prefopt.card.figures import COLUMNS, as_json, figures, suspicious_csv
from prefopt.card.survey import Survey
from prefopt.config.card import CardConfig
from tests.kit.card import HOSTILE, surveyed, varied_pairs

HIDDEN, SHOWN = CardConfig(least_votes=1), CardConfig(least_votes=1, annotators="shown")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return surveyed(tmp_path_factory.mktemp("figures"), varied_pairs(), config=HIDDEN)


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_all_figures_are_json(found: Survey) -> None:
    content = json.loads(as_json(figures(found, HIDDEN)))
    assert content["schema_version"] == 1
    assert content["counts"]["votes"] == 108
    assert content["suspicious"]["found"] == len(found.suspects)
    assert content["suspicious"]["listed_with_flipped"] > 0
    assert content["settings"]["annotators"] == "hashed"
    listed = content["annotators"]["listed"]
    assert len(listed) == 6
    assert listed[0].keys() >= {"name", "votes", "ties", "others", "panel", "first", "p", "stands_out", "changed"}
    assert len(listed[0]["panel"]["by_time"]) == len(content["times"])
    assert content["prompts"]["clusters"][0].keys() == {"name", "pairs", "votes", "ties", "disagreement", "u"}


def test_numbers_have_six_digits(found: Survey) -> None:
    def check(value: object) -> None:
        if isinstance(value, float):
            assert value == float(f"{value:.6g}")
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(part)

    check(figures(found, HIDDEN))


def test_every_listed_pair_has_a_line(found: Survey) -> None:
    lines = rows(suspicious_csv(found.suspects))
    assert [line["rank"] for line in lines] == [str(rank + 1) for rank in range(len(found.suspects))]
    assert tuple(lines[0]) == COLUMNS
    assert [line["pair_id"] for line in lines] == [one.suspect.pair["pair_id"] for one in found.suspects]
    assert [float(line["suspicion"]) for line in lines] == sorted(float(line["suspicion"]) for line in lines)[::-1]


def test_no_cell_is_a_formula(found: Survey) -> None:
    lines = rows(suspicious_csv(found.suspects))
    assert not any(cell.lstrip()[:1] in ("=", "+", "-", "@") for line in lines for cell in line.values() if cell)
    hostile = [line for line in lines if "alert(1)" in line["prompt"]]
    assert {line["prompt"] for line in hostile} <= {f"'{HOSTILE}"}


def test_ids_appear_only_where_they_may(found: Survey, tmp_path: Path) -> None:
    hidden = as_json(figures(found, HIDDEN)) + suspicious_csv(found.suspects)
    assert b"person " not in hidden
    known = surveyed(tmp_path, varied_pairs(), config=SHOWN)
    assert b"person 3" in as_json(figures(known, SHOWN))
    assert b"person 3: " in suspicious_csv(known.suspects)
