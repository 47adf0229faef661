"""From a config, a history and a champion to the night's config."""

from pathlib import Path

import pytest

from prefopt.config import RunConfig
from prefopt.config.retrain import ChampionConfig, PairsConfig
from prefopt.errors import ConfigError
from prefopt.registry import Champion, Registry
from prefopt.retraining.plan import is_full, night_config, steps_for
from prefopt.retraining.trail import Trail
from tests.kit.data import small_config
from tests.kit.nights import add

CHAMPION = ChampionConfig(run="runs/a", train="a" * 64, digest="b" * 64, ingest="c" * 64, score="d" * 64)
NO_PAIRS = PairsConfig(place="none.txt", sha256="e" * 64, pairs=0)
LISTS = {"fresh": NO_PAIRS, "aside": NO_PAIRS}
NEVER = Trail((), 0, (0, 0))


def config(place: Path, **branches: object) -> RunConfig:
    given = {"train": {"steps": 50}, **branches}
    return small_config(place, [{"kind": "world", "pairs": 10}], **given)


def test_a_night_goes_on_from_the_champion(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    add(registry, "promote", Champion(run="runs/a", train="a" * 64, digest="b" * 64))
    history = registry.history()
    sets = [{"kind": "heldout", "most": 5}, {"kind": "heldout", "name": "other", "most": 5, "rotates": True}]
    base = config(tmp_path, evaluate={"prompt_sets": sets}, retrain={"reference": "champion", "replay": 0.5})
    made = night_config(base, history, Trail((True,), 1, (3, 4)), CHAMPION, 10, full=False, **LISTS)
    assert made.night is not None
    assert (made.night.number, made.night.after, made.night.champion) == (2, history[0].sha256, CHAMPION)
    assert (made.night.replay, made.night.audited, made.night.full) == (0.5, (3, 4), False)
    assert made.night.level == Trail((True,), 1, (3, 4)).level(0.05)
    assert (made.train.init_from, made.train.reference_from) == ("runs/a", "runs/a")
    assert made.train.steps == 10
    assert made.evaluate.models == {"champion": "runs/a"}
    assert [chosen.order for chosen in made.evaluate.prompt_sets] == [0, 2]


def test_a_full_night_starts_from_the_base_and_still_has_a_rival(tmp_path: Path) -> None:
    made = night_config(config(tmp_path), [], Trail((), 9, (3, 4)), CHAMPION, 10, full=True, **LISTS)
    assert made.night is not None
    assert (made.train.init_from, made.train.steps, made.night.replay) == (None, 50, 0.0)
    assert made.evaluate.models == {"champion": "runs/a"}
    assert made.night.audited == (0, 0)


def test_the_first_night_has_no_rival_but_the_base(tmp_path: Path) -> None:
    made = night_config(config(tmp_path), [], NEVER, None, 10, full=True, **LISTS)
    assert made.evaluate.models == {}
    assert made.night is not None
    assert (made.night.number, made.night.after) == (1, None)


def test_steps_are_what_new_pairs_are_worth_and_never_more_than_all_pairs_are(tmp_path: Path) -> None:
    small = config(tmp_path, retrain={"replay": 0.5, "visits_per_pair": 1.0})
    assert [steps_for(small, new) for new in (1, 2, 3, 40, 1000)] == [1, 1, 2, 20, 50]


def test_a_full_night_is_due_first_and_after_so_many_promotions(tmp_path: Path) -> None:
    every_third = config(tmp_path, retrain={"full_every": 3})
    assert is_full(every_third, None, NEVER)
    assert [is_full(every_third, CHAMPION, Trail((), since, (0, 0))) for since in range(5)] == [0, 0, 0, 1, 1]
    assert not is_full(config(tmp_path, retrain={"full_every": None}), CHAMPION, Trail((), 99, (0, 0)))


def test_the_name_of_the_champion_is_taken(tmp_path: Path) -> None:
    taken = config(tmp_path, evaluate={"models": {"champion": "me/mine"}})
    with pytest.raises(ConfigError, match=r"evaluate\.models.*champion"):
        night_config(taken, [], NEVER, CHAMPION, 10, full=False, **LISTS)


def test_a_night_measures_the_distance_from_the_base(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.features is null"):
        night_config(config(tmp_path, evaluate={"features": None}), [], NEVER, CHAMPION, 10, full=False, **LISTS)


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"reward": "world/true", "prompt_set": "other"}, "not the first"),
        ({"reward": "world/style", "prompt_set": "third"}, "must be the name of one"),
    ],
)
def test_an_audit_that_decides_too_is_refused(tmp_path: Path, audit: dict[str, str], message: str) -> None:
    sets = [{"kind": "heldout"}, {"kind": "heldout", "name": "other"}]
    judged = {"prompt_sets": sets, "rewards": ["world/true", "world/style"]}
    config(tmp_path, evaluate=judged, gate={"audit": {"reward": "world/style", "prompt_set": "other"}})
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, evaluate=judged, gate={"audit": audit})
