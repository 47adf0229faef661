"""drift: how far new pairs differ from what the champion was trained on, before a night trains on them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.framing import Framing
from prefopt.data.keys import LATENTS
from prefopt.data.manifest import Rows
from prefopt.data.pair_lists import read_pairs
from prefopt.data.store import LatentStore
from prefopt.data.tables import read_tables
from prefopt.data.visits import latent_key
from prefopt.distributed.costly import Latent
from prefopt.distributed.stores import latent_stores
from prefopt.drift.check import SEED, Sides, check, without_champion
from prefopt.drift.pictures import Pictures, one_of_each_prompt, pooled
from prefopt.drift.records import DRIFT, Drift
from prefopt.drift.sides import sampled, training_pairs
from prefopt.models.shape import latent_shape
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.champion import champion_ingest, known_pairs

GRID = 8
"""Latents are averaged to at most so many rows and columns, as `prefopt.features.vae` does."""
_CHUNK = 256
_VOTE = ["vote_id", "pair_id", "annotator", "group", "label", "latest"]


def run(context: StageContext) -> StageResult:
    """Write drift.json. Costly rows are read from the stores; none is computed."""
    pairs = read_tables(context.parents["ingest"], "pairs-")
    found = _drift(context, pairs)
    context.output.write_bytes(DRIFT, found.encoded())
    return StageResult(rows=Rows(in_=pairs.num_rows, out=pairs.num_rows), files=[DRIFT], summary=_summary(found))


def _drift(context: StageContext, pairs: pa.Table) -> Drift:
    night = context.config.night
    champion = night.champion if night else None
    if night is None or champion is None:
        return without_champion(training_pairs(pairs, ()).num_rows)
    labels = read_tables(context.parents["inject"], "labels-", _VOTE)
    known = known_pairs(labels, champion_ingest(champion))
    compared_with = known | read_pairs(night.fresh.place, night.fresh.sha256)
    both_sides = pairs.filter(pc.is_in(pairs["pair_id"], pa.array(sorted(compared_with), pa.string())))
    train = training_pairs(both_sides, known)
    config = context.config.retrain.drift
    compared = sampled(train, config.rows, SEED)
    scores = read_tables(context.parents["score"], "scores-", ["pair_id", "alpha", "stability", "u", "panel_majority"])
    pictures = _pictures(context, compared)
    return check(config, Sides(train, compared, labels, scores), pictures, champion.ingest)


def _pictures(context: StageContext, compared: pa.Table) -> Pictures:
    """Latents of those compared pairs of which both images are in the stores."""
    config, images = context.config, read_tables(context.parents["ingest"], "images-")
    stores = latent_stores(context.store, config)
    places = _stored(stores, Framing.of(config.score.sizes, images), compared)
    new, prompts = compared["new"].to_numpy(zero_copy_only=False), compared["prompt"].to_pylist()
    held = np.flatnonzero([first is not None and second is not None for first, second in places])
    chosen = held[one_of_each_prompt([prompts[row] for row in held], new[held])]
    wanted = [latent for row in chosen for latent in places[row] if latent is not None]
    names = compared["pair_id"].to_pylist()
    return Pictures(
        [prompts[row] for row in chosen], [names[row] for row in chosen], new[chosen], _vectors(config, stores, wanted)
    )


def _stored(
    stores: Mapping[Size, LatentStore], framing: Framing, pairs: pa.Table
) -> list[tuple[Latent | None, Latent | None]]:
    """Each pair's latents, of the images as they are or else of their mirror images; None where there is neither."""
    both = list(zip(pairs["image_0"].to_pylist(), pairs["image_1"].to_pylist(), strict=True))
    sizes = [framing.bucket(*images) for images in both]
    absent: set[Latent] = set()
    for size, store in stores.items():
        store.refresh()
        of_size = [image for images, bucket in zip(both, sizes, strict=True) if bucket == size for image in images]
        wanted = {latent_key(image, flip): Latent(size, image, flip) for image in of_size for flip in (False, True)}
        absent |= {wanted[key] for key in store.missing(wanted)}

    def place(size: Size, image: str) -> Latent | None:
        return next((made for flip in (False, True) if (made := Latent(size, image, flip)) not in absent), None)

    return [(place(size, first), place(size, second)) for size, (first, second) in zip(sizes, both, strict=True)]


def _vectors(config: RunConfig, stores: Mapping[Size, LatentStore], wanted: Sequence[Latent]) -> np.ndarray:
    """float32 [pairs, 2, D] averaged latents, those of mirror images turned back, from two latents of each pair."""
    shapes = np.array([latent_shape(config, size) for size in stores])
    channels, height, width = (int(n) for n in (shapes[0, 0], *np.minimum(shapes[:, 1:].min(axis=0), GRID)))
    found = np.empty((len(wanted), channels * height * width), np.float32)
    for size, store in stores.items():
        rows = np.array([row for row, latent in enumerate(wanted) if latent.size == size], dtype=np.intp)
        for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK)):
            latents = store.latents([latent_key(wanted[row].image, wanted[row].flip) for row in part], LATENTS)
            mirrored = np.array([wanted[row].flip for row in part], dtype=bool)
            latents[mirrored] = latents[mirrored, ..., ::-1]
            found[part] = pooled(latents, height, width)
    return found.reshape(len(wanted) // 2, 2, channels * height * width)


def _summary(found: Drift) -> dict[str, int | float | str | None]:
    return {
        "action": found.action,
        "new_pairs": found.counts.new,
        "known_pairs": found.counts.known,
        "warnings": ", ".join(signal.name for signal in found.warnings) or None,
        **{signal.name: signal.value for signal in found.signals},
    }
