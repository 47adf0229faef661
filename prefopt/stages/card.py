"""card: what the preference data hold, before GPU hours are spent on them."""

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.card.figures import as_json, figures, suspicious_csv
from prefopt.card.page import PICTURE_BYTES, Picture, render_card
from prefopt.card.survey import Survey, survey
from prefopt.data.manifest import Rows
from prefopt.distributed.thumbnails import MakeThumbnails, thumbnail_units
from prefopt.distributed.units import run_units
from prefopt.page.pictures import data_uri
from prefopt.stages.base import StageContext, StageResult

PAGE, FIGURES, LISTING = "data-card.html", "card.json", "suspicious.csv"


def run(context: StageContext) -> StageResult:
    """Write data-card.html, card.json and suspicious.csv: counts, and the most suspicious pairs with their images."""
    config = context.config.card
    ingest, inject, score = (context.parents[name] for name in ("ingest", "inject", "score"))
    found = survey(ingest, inject, score, config, context.progress)
    keys = {name: parent.manifest.key for name, parent in context.parents.items()}
    page = render_card(found, config, _pictures(context, found), keys)
    context.output.write_bytes(FIGURES, as_json(figures(found, config)))
    context.output.write_bytes(LISTING, suspicious_csv(found.suspects))
    context.output.write_bytes(PAGE, page.encode())
    votes = ingest.manifest.rows.out
    assert found.counts.votes == votes, "every vote is counted"
    return StageResult(rows=Rows(in_=votes, out=votes), files=[FIGURES, LISTING, PAGE], summary=_summary(found))


def _pictures(context: StageContext, found: Survey) -> dict[str, Picture]:
    """Small pictures of the shown pairs, by image id."""
    config, work = context.config, context.output.child("work")
    shown = [one.suspect.pair for one in found.suspects[: config.card.pairs]]
    units = thumbnail_units(_places(context, {pair[side] for pair in shown for side in ("image_0", "image_1")}))
    largest = config.card.thumbnail
    run_units(
        units,
        partial(MakeThumbnails, context.sources, config.ingest.limits, largest, PICTURE_BYTES, work),
        receipts=work.child("receipts/thumbnails"),
        cluster=config.cluster,
        progress=context.progress,
        what="thumbnails",
    )
    rows = [row for unit in units for row in work.read_table(unit.payload["file"]).to_pylist()]
    return {row["image_id"]: Picture(data_uri(row["kind"], row["data"]), row["kind"] == "png") for row in rows}


def _places(context: StageContext, images: set[str]) -> list[dict[str, Any]]:
    """Where images lie."""
    ingest, wanted = context.parents["ingest"], pa.array(sorted(images), pa.string())
    found: list[dict[str, Any]] = []
    for file in ingest.manifest.files_like("images-") if images else ():
        table = ingest.storage.read_table(file)
        found += table.filter(pc.is_in(table["image_id"], wanted)).to_pylist()
    return found


def _summary(found: Survey) -> dict[str, int | float | str | None]:
    return {
        "pairs": found.counts.pairs,
        "ties": found.counts.ties,
        "pairs_contradicted": found.contradicted.hits,
        "agreement": found.agreement.value,
        "annotators_standing_out": found.people.standing_out,
        "near_duplicates_across_splits": found.duplicates.near_duplicates_across_splits,
        "suspicious_pairs": found.suspects_found,
    }
