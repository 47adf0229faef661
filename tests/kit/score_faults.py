"""A small score stage on the world's pictures, whose reward models fail as they are told."""

import base64
import contextlib
import csv
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from PIL import Image

from prefopt.config import RunConfig
from prefopt.config.ingest import Limits
from prefopt.data.keys import reward_key
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.costly import scored_images
from prefopt.distributed.pixels import read_pixels
from prefopt.distributed.stores import reward_store
from prefopt.rewards import reward_spec
from prefopt.stages.base import StageOutput
from prefopt.world.dataset import encode_png, world_pair
from prefopt.world.scenes import render
from tests.kit.data import fingerprint, quiet, run_stages, small_config
from tests.rewards.endpoint import Endpoint, endpoint

PAIRS = 24
UNIT_IMAGES = 8
STAGES = ("ingest", "inject", "score")
Question = tuple[str, str]
"""An image, by `named`, and a prompt."""


def named(image: Image.Image) -> str:
    """What an image is called here, as by the reward model of tests/kit/site."""
    from kit_rewards import named as of_site

    name: str = of_site(image)
    return name


def write_pictures(folder: Path) -> None:
    """Pairs of the world as files 00-a.png, 00-b.png, ... and votes.csv, in which every a wins."""
    folder.mkdir()
    rows = []
    for index in range(PAIRS):
        pair, names = world_pair(0, index), [f"{index:02d}-{side}.png" for side in "ab"]
        for name, scene in zip(names, (pair.first, pair.second), strict=True):
            (folder / name).write_bytes(encode_png(render(scene)))
        rows.append([*names, pair.prompt, f"person {index % 3}"])
    with (folder / "votes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["winner", "loser", "prompt", "annotator"], *rows])


class Server:
    """Meets requests to a reward server: one that holds the picture `hangs_on` is left waiting."""

    def __init__(self) -> None:
        self.hangs_on: str | None = None
        self.mended = threading.Event()

    def __call__(self, _: BaseHTTPRequestHandler, request: dict[str, Any]) -> bool:
        """Say whether the request was met here, which is by no answer."""
        return self.hangs_on in [image for image, _ in _questions(request)] and self.mended.wait(60.0)


def faulty_config(
    root: Path, url: str, name: str, *, engine: str = "process", workers: int = 2, **judge: Any
) -> RunConfig:
    """A run below `root` with two rewards, of an installed package and behind HTTP; `judge` sets the second one's."""
    models = {
        "mine": {"kind": "entry_point", "entry_point": "kit-faulty", "options": {"place": str(root)}},
        "judge": {"kind": "http", "url": url, "version": "1", **judge},
    }
    folder = str(root / "pictures")
    panel = {"rewards": ["mine", "judge"]}
    return small_config(
        root / name,
        [{"kind": "folder", "path": f"{folder}/votes.csv", "images": folder}],
        score={"alpha": {"reward": "mine"}, "panel": panel, "batch": 4, "unit_images": UNIT_IMAGES},
        rewards={"models": models},
        cluster={"engine": engine, "workers": workers},
    )


@dataclass
class Place:
    """Where the runs of a test module lie, and what its reward models are told and asked."""

    root: Path
    seen: Endpoint
    server: Server
    undisturbed: Path = field(init=False)

    def begin(self, name: str) -> None:
        """Bring a run to where score begins."""
        for stage in ("ingest", "inject"):
            shutil.copytree(self.undisturbed / stage, self.root / name / "run" / stage)

    def run(self, name: str, progress: Any = quiet, **settings: Any) -> dict[str, StageOutput]:
        """The stages of a run, those that are done already passed over."""
        config = faulty_config(self.root, self.seen.url, name, **settings)
        return run_stages(config, self.root / name / "run", STAGES, progress)

    def prints(self, name: str) -> dict[str, Any]:
        """Keys, rows and checksums of a run's stages."""
        return fingerprint(self.root / name / "run")

    def tell(self, **fault: str | int) -> None:
        """What goes wrong from now on: nothing, or a fault of `kit_rewards`."""
        (self.root / "fault.json").write_text(json.dumps(fault))

    def mend(self) -> None:
        """Nothing goes wrong from now on."""
        self.tell()
        self.server.hangs_on = None
        self.server.mended.set()

    def picture(self, file: str) -> str:
        """The name of a picture."""
        return named(Image.open(self.root / "pictures" / file).convert("RGB"))

    def take_asked(self) -> dict[str, list[Question]]:
        """What each reward was asked since the last call, with repetitions."""
        path = self.root / "asked"
        lines = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        judged = [question for request in self.seen.requests for question in _questions(request)]
        self.seen.requests.clear()
        for process in {int(pid) for pid, *_ in lines} - {os.getpid()}:
            _wait_for_end(process)
        return {"mine": [(image, prompt) for _, image, prompt in lines], "judge": judged}

    def missing(self, name: str) -> dict[str, set[Question]]:
        """What the stores of a run lack of each reward."""
        config, ingest = faulty_config(self.root, self.seen.url, name), _output(self.undisturbed, "ingest")
        order = [(column, "ascending") for column in ("source", "file", "row", "column")]
        places = read_tables(ingest, "images-").sort_by(order).to_pylist()
        names = {image: named(pixels) for image, pixels in read_pixels(config.ingest.sources, places, Limits())}
        questions = {reward_key(*pair): pair for pair in scored_images(read_tables(ingest, "pairs-"))}
        found = {}
        for reward in ("mine", "judge"):
            store = reward_store(Storage(config.store), reward_spec(reward, config), config.score.batch)
            store.refresh()
            found[reward] = {(names[questions[key][0]], questions[key][1]) for key in store.missing(questions)}
        return found

    def stored_twice(self, name: str) -> list[str]:
        """Keys that two parts of one store hold."""
        twice = []
        for family in (self.root / name / "store").glob("*/*/family.json"):
            keys = [key for part in family.parent.glob("*.parquet") for key in pq.read_table(part)["key"].to_pylist()]
            twice += sorted({key for key in keys if keys.count(key) > 1})
        return twice


def _questions(request: dict[str, Any]) -> list[Question]:
    """What a request to the server asks."""
    images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in request["images"]]
    return list(zip(map(named, images), request["prompts"], strict=True))


def _output(run: Path, stage: str) -> StageOutput:
    (directory,) = (run / stage).iterdir()
    storage = Storage(str(directory))
    return StageOutput(storage, read_manifest(storage))


def _wait_for_end(process: int) -> None:
    """Until an actor, which nobody needs any more, is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process).wait(60)


@contextlib.contextmanager
def place_of_faults(root: Path) -> Iterator[Place]:
    """Data, a reward server, and an undisturbed run."""
    server = Server()
    with endpoint(*[server] * 10_000) as seen:
        place = Place(root, seen, server)
        write_pictures(root / "pictures")
        place.undisturbed = root / "undisturbed" / "run"
        place.run("undisturbed")
        yield place
