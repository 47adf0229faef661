"""The laboratory's page."""

import random
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prefopt.config.lab_page import AnalysisConfig
from prefopt.lab.grid import Place
from prefopt.lab.outcome import Outcome
from prefopt.lab.page import write_page
from prefopt.lab.rerun import command
from tests.kit import lab as kit

LEVELS = {"dpo_ddim": 0.31, "smpo": 0.33}
ASKED = AnalysisConfig(
    ablation=("dpo", "dpo_ddim", "smpo"), families={"dpo": ("dpo-20", "dpo-60"), "smpo": ("smpo-15", "smpo-40")}
)
SECTIONS = [
    "Claims",
    "Methods",
    "Gain under flipped labels",
    "Methods against each other",
    "The minority metric u",
    "Minority labels by flip rate",
    "Annotators who disagree",
    "What each part adds",
    "Quality against cost",
    "Tuning",
    "Every cell, and how to run it again",
]


def whole() -> list[Outcome]:
    """Cells for every section, of three seeds."""
    lengths = {"dpo-20": (0.6, 2000.0), "dpo-60": (0.65, 6000.0), "smpo-15": (0.6, 1500.0), "smpo-40": (0.7, 4000.0)}
    return [
        *kit.drawn(noises=["clean", "flips-20", "tastes"], seeds=range(3)),
        *kit.drawn(lambda method, _: LEVELS[method], methods=list(LEVELS), noises=["clean"], seeds=range(3), entropy=1),
        *(
            kit.outcome(name, "clean", seed, accuracy=accuracy + 0.003 * seed, cost=kit.cost(forwards))
            for name, (accuracy, forwards) in lengths.items()
            for seed in range(3)
        ),
        *(kit.outcome("dpo", "flips-20", 9, candidate=n, settings=[f"train.steps={n + 1}"]) for n in range(2)),
    ]


def written(
    outcomes: list[Outcome],
    directory: Path,
    asked: AnalysisConfig = ASKED,
    chosen: Mapping[str, int] | None = None,
    planned: Sequence[Place] = (),
) -> list[Path]:
    places = write_page(
        outcomes,
        asked,
        str(directory),
        planned=planned,
        chosen=chosen or {},
        title="A lab",
        model="the embedded world",
        run="run.yaml",
        made_by="`prefopt lab`",
    )
    return [Path(place) for place in places]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of the whole grid."""
    return written(whole(), tmp_path_factory.mktemp("whole"))


def test_every_question_has_its_section_and_every_picture_its_file(made: list[Path]) -> None:
    page, *pictures = made
    text = page.read_text()
    assert page.name == "lab.md"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert sorted(re.findall(r"^!\[.+\]\((.+)\)$", text, re.MULTILINE)) == sorted(path.name for path in pictures)
    for path in pictures:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_page_says_how_many_claims_there_are_and_which_are_not_corrected(made: list[Path]) -> None:
    text = " ".join(made[0].read_text().split())
    assert "What the publications claim, in 19 figures" in text
    assert "Each of the other 7 *holds* if its whole interval lies on its side" in text
    assert "these intervals are not corrected for how many claims there are" in text


def test_the_order_of_outcomes_leaves_no_trace(made: list[Path], tmp_path: Path) -> None:
    cells = whole()
    random.Random(1).shuffle(cells)
    again = {path.name: path.read_bytes() for path in written(cells, tmp_path)}
    assert again == {path.name: path.read_bytes() for path in made}


def test_rows_of_tables_are_as_long_as_their_heads(made: list[Path]) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", made[0].read_text(), re.MULTILINE)
    assert len(blocks) > 20
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert re.fullmatch(r"\|(---:?\|)+", block.splitlines()[1])


def test_every_cell_has_the_command_that_runs_it_again(made: list[Path]) -> None:
    lines = [line for line in made[0].read_text().splitlines() if line.startswith("prefopt run ")]
    grid = [one for one in whole() if one.candidate is None]
    assert sorted(lines) == sorted(command(one, "run.yaml") for one in grid)
    assert all(shlex.split(line)[2] == "run.yaml" for line in lines)


def test_missing_cells_and_absent_methods_are_told(tmp_path: Path) -> None:
    cells = kit.drawn(methods=["adaptive_dpo", "dpo"], noises=["clean", "flips-20"], seeds=range(3))
    cells.remove(next(one for one in cells if (one.method, one.noise, one.seed) == ("dpo", "flips-20", 1)))
    planned = [
        Place(method, noise, seed)
        for method in ("adaptive_dpo", "dpo", "kto")
        for noise in ("clean", "flips-20")
        for seed in range(3)
    ]
    text = written(cells, tmp_path, planned=planned)[0].read_text()
    absent = "kto at clean, seeds 0, 1, 2; kto at flips-20, seeds 0, 1, 2"
    assert f"**7 of 18 cells have no outcome yet**: dpo at flips-20, seed 1; {absent}." in text
    assert "; 2 seeds)" in text


@pytest.mark.parametrize(
    "kept",
    [
        lambda one: False,
        lambda one: one.candidate is not None,
        lambda one: (one.method, one.seed) == ("dpo", 0),
        lambda one: one.noise == "tastes",
        lambda one: one.method == "adaptive_dpo" and one.noise == "flips-20",
        lambda one: one.method in {"dpo-20", "smpo-15", "smpo"},
    ],
    ids=["none", "tuning", "one seed", "tastes", "one method", "parts"],
)
def test_a_page_can_be_made_of_any_part_of_a_grid(tmp_path: Path, kept: object) -> None:
    assert callable(kept)
    text = written([one for one in whole() if kept(one)], tmp_path)[0].read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert "nan" not in text.lower()


def test_notes_beside_the_page_outlive_it(tmp_path: Path) -> None:
    cells = kit.drawn(methods=["dpo"], noises=["tastes"], seeds=range(2))
    notes = "Why **dpo** falls:\n\n\n    indented <b>text</b> | {{ not a template }}\n"
    (tmp_path / "lab-notes.md").write_text(notes)
    for _ in range(2):
        text = written(cells, tmp_path)[0].read_text()
    assert f"## Notes\n\n{notes}" in text


def test_pictures_that_the_page_no_longer_has_are_removed_and_nothing_else(tmp_path: Path) -> None:
    written(kit.drawn(methods=["dpo"], noises=["clean", "flips-20"], seeds=range(2)), tmp_path)
    assert (tmp_path / "lab-gain-accuracy.svg").exists()
    strangers = {"lab-x.svg", "lab-gain-mine.svg", "nights.svg", "lab-notes.md"}
    for name in strangers:
        (tmp_path / name).write_text("![mine](lab-x.svg) and ![this](nights.svg)\n")
    left = written(kit.drawn(methods=["dpo"], noises=["tastes"]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == strangers | {path.name for path in left}
    (tmp_path / "lab-notes.md").write_text("Nothing of mine any more.\n")
    written(kit.drawn(methods=["dpo"], noises=["tastes"]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == strangers | {path.name for path in left}


def test_laboratories_of_two_stems_share_a_directory(tmp_path: Path) -> None:
    cells = kit.drawn(methods=["dpo"], noises=["clean", "flips-20"], seeds=range(2))
    (tmp_path / "lab-notes.md").write_text("of the first, see ![two](lab-two-gain-score.svg)")
    first = {path: path.read_bytes() for path in written(cells, tmp_path)}
    second = written(cells, tmp_path, AnalysisConfig(stem="lab-two"))
    text = second[0].read_text()
    assert second[0].name == "lab-two.md"
    assert {path.name for path in second[1:]} == set(re.findall(r"\((lab-two-[^)]+\.svg)\)", text))
    assert len(second) == len(first)
    assert "of the first" not in text
    written(kit.drawn(methods=["dpo"], noises=["tastes"]), tmp_path, AnalysisConfig(stem="lab-two"))
    assert {path: path.read_bytes() for path in first} == first
    assert not any(path.exists() for path in second[1:])


def test_what_a_page_shows_of_another_laboratory_stays(tmp_path: Path) -> None:
    cells = kit.drawn(methods=["dpo"], noises=["clean", "flips-20"], seeds=range(2))
    notes = tmp_path / "lab-notes.md"
    notes.write_text("![two](lab-two-gain-score.svg)")
    written(cells, tmp_path, AnalysisConfig(stem="lab-two"))
    written(cells, tmp_path)
    notes.write_text("no more")
    written(cells, tmp_path)
    assert (tmp_path / "lab-two-gain-score.svg").exists()


def test_a_method_that_is_still_being_tuned_is_not_told_as_tuned_less(tmp_path: Path) -> None:
    tried = [
        kit.outcome(method, "flips-20", 9, candidate=number, settings=[f"train.steps={number + 1}"])
        for method, count in (("dpo", 2), ("ipo", 1))
        for number in range(count)
    ]
    assert "Every method had 2 candidates." in written(tried, tmp_path, chosen={"dpo": 0})[0].read_text()
    assert "**Methods were not tuned alike**" in written(tried, tmp_path, chosen={"dpo": 0, "ipo": 0})[0].read_text()


def test_a_column_of_all_votes_stands_beside_groups_of_any_name(tmp_path: Path) -> None:
    cells = [
        kit.outcome("dpo", "tastes", seed, accuracy_by_group={"majority": 0.7, "minority": 0.4}) for seed in range(2)
    ]
    text = written(cells, tmp_path)[0].read_text()
    assert "\n| method | all votes | majority | minority |\n" in text


def test_the_candidate_that_the_grid_has_is_marked_and_none_of_a_method_that_is_still_tuned(tmp_path: Path) -> None:
    cells = [
        kit.outcome(method, "flips-20", 9, candidate=number, settings=[f"train.steps={number + 1}"])
        for method in ("dpo", "ipo")
        for number in range(3)
    ]
    text = written(cells, tmp_path, chosen={"dpo": 2})[0].read_text()
    assert re.findall(r"^\| (\w+) \|.*\*\*chosen\*\* \|$", text, re.MULTILINE) == ["dpo"]
    assert re.search(r"^\| dpo \|[^|]+\| 2 \|.*chosen", text, re.MULTILINE)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    cells = [kit.outcome("a|b*c", "n`|`", seed, settings=["name=```"], rate=0.0) for seed in range(2)]
    text = written(cells, tmp_path)[0].read_text()
    assert r"a\|b\*c" in text
    assert "\n````sh\n# 1: a|b*c, n`|`, seed 0\n" in text
