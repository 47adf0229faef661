"""The data card of the embedded world, made by the chain."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefopt import cli
from prefopt.config import RunConfig
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage
from prefopt.stages.chain import Chain
from prefopt.world.dataset import write_dataset
from tests.kit.data import StopAfter, StopAfterError, check_manifests, fingerprint, quiet, run_stages, small_config
from tests.kit.pages import Page, check_access, check_page

STAGES = ("ingest", "inject", "score", "card")
FILES = ["card.json", "data-card.html", "suspicious.csv"]


def config(place: Path, **card: Any) -> RunConfig:
    if not (place / "data").exists():
        write_dataset(place / "data", pairs=60, seed=3, rows_per_file=40, row_group_rows=5, annotators=8, repeated=0.4)
    source = {"kind": "pickapic", "path": str(place / "data"), "group_column": "user_group"}
    return small_config(
        place,
        [source],
        ingest={"sources": [source], "split": {"validation": 0.2, "test": 0.2}},
        inject={"flips": [{"kind": "symmetric", "rate": 0.2}]},
        score={"panel": {"rewards": ["world/fidelity", "world/composition"]}},
        card={"pairs": 6, "clusters": 3, **card},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of a run as far as the card."""
    place = tmp_path_factory.mktemp("world")
    run_stages(config(place), place / "run", STAGES)
    return place


def output(place: Path) -> Storage:
    (manifest,) = place.glob("run/card/*/manifest.json")
    return Storage(str(manifest.parent))


def test_rows_files_and_figures(made: Path) -> None:
    storage = output(made)
    manifest = read_manifest(storage)
    assert [file.path for file in manifest.files] == FILES == [n for n in storage.files() if n != "manifest.json"]
    ingest = next(m for m in check_manifests(str(made / "run")) if m.stage == "ingest")
    assert manifest.rows.out == manifest.rows.in_ == ingest.rows.out
    assert (manifest.unit, manifest.parents.keys()) == ("vote", {"ingest", "inject", "score"})
    content = json.loads(storage.read_bytes("card.json"))
    assert content["counts"]["votes"] == manifest.rows.out
    assert content["counts"]["pairs"] == manifest.summary["pairs"] == 60
    assert content["annotators"]["everyone"]["first"]["n"] + content["counts"]["ties"] == manifest.rows.out
    assert content["annotators"]["everyone"]["panel"]["value"] > 0.6
    assert content["suspicious"]["found"] == manifest.summary["suspicious_pairs"] > 6
    assert len(content["times"]) > 1


def test_the_page_shows_the_most_suspicious_pairs(made: Path) -> None:
    html = output(made).read_bytes("data-card.html").decode()
    check_page(html)
    check_access(html)
    images = Page(html).all("img")
    assert len(images) == 12
    assert len({image["src"] for image in images}) == 12
    assert all(image["src"].startswith("data:image/png;base64,") and image["class"] == "small" for image in images)
    assert html == (made / "run" / "data-card.html").read_text()


def test_files_hold_neither_time_nor_place(made: Path) -> None:
    storage = output(made)
    for name in FILES:
        assert str(made).encode() not in storage.read_bytes(name)
        assert made.name.encode() not in storage.read_bytes(name)


def test_flipped_labels_are_found_more_often_than_others(made: Path) -> None:
    content = json.loads(output(made).read_bytes("card.json"))
    listed, flipped = content["suspicious"]["listed"], content["suspicious"]["listed_with_flipped"]
    assert flipped / listed > content["counts"]["flipped"] / content["counts"]["votes"]


def test_a_card_cut_short_finishes_to_the_same_bytes(made: Path) -> None:
    undisturbed = fingerprint(made / "run")["card"]
    (folder,) = made.glob("run/card/*")
    for file in folder.iterdir():
        file.unlink()
    chain = Chain(config(made), str(made / "run"), start_engine=lambda: None, progress=StopAfter("thumbnails", 1))
    with pytest.raises(StopAfterError):
        chain.run(["card"])
    assert not list(folder.rglob("manifest.json"))
    assert list(folder.rglob("receipts/thumbnails/*.json"))
    run_stages(config(made), made / "run", ["card"])
    assert fingerprint(made / "run")["card"] == undisturbed
    assert not (folder / "work").exists()


def test_the_card_has_a_key_of_its_own(made: Path) -> None:
    chain = Chain(config(made, pairs=0), str(made / "run"), start_engine=lambda: None, progress=quiet)
    assert [chain.is_done(stage) for stage in STAGES] == [True, True, True, False]
    (outcome,) = chain.run(["card"])
    assert b"<img" not in outcome.output.storage.read_bytes("data-card.html")
    run_stages(config(made), made / "run", ["card"])
    assert len(list(made.glob("run/card/*"))) == 2
    outcome.output.storage.delete("")


def test_the_command_says_where_the_page_lies(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "my.yaml").write_text(yaml.safe_dump(config(made).model_dump(mode="json", by_alias=True)))

    def said(*arguments: str) -> str:
        monkeypatch.setattr(
            sys, "argv", ["prefopt", "card", str(made / "my.yaml"), "--run-dir", str(made / "run"), *arguments]
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr().out

    assert said().splitlines()[-1] == f"Data card: {made}/run/data-card.html"
    answer = json.loads(said("--json"))
    assert (answer["stage"], answer["skipped"]) == ("card", True)
