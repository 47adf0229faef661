"""What the champion was made from, for a night that goes on from it."""

import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config.retrain import ChampionConfig
from prefopt.data.manifest import is_complete, read_manifest
from prefopt.data.scales import Scales, read_scales
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.errors import InputError
from prefopt.stages.base import StageOutput


def champion_ingest(champion: ChampionConfig) -> StageOutput:
    """The votes that it has seen. InputError if they are gone."""
    return _stage(champion, "ingest", champion.ingest)


def champion_scales(champion: ChampionConfig) -> Scales:
    """The scales by which its pairs were judged. InputError if they are gone."""
    return read_scales(_stage(champion, "score", champion.score).storage)


def known_pairs(votes: pa.Table, seen: StageOutput) -> frozenset[str]:
    """Pairs of which an earlier ingest stage holds every vote, from `vote_id` and `pair_id` of all votes."""
    before = read_tables(seen, "votes-", ["vote_id"])["vote_id"].combine_chunks()
    new = votes.filter(pc.invert(pc.is_in(votes["vote_id"], before)))["pair_id"].combine_chunks()
    known = votes.filter(pc.invert(pc.is_in(votes["pair_id"], new)))["pair_id"]
    return frozenset(known.unique().to_pylist())


def _stage(champion: ChampionConfig, stage: str, key: str) -> StageOutput:
    storage = Storage(champion.run).child(f"{stage}/{key[:12]}")
    if not is_complete(storage, key):
        raise InputError(
            f"The champion's {stage} stage is not in {storage.uri} any more: what is new cannot be told. Restore the"
            " directory, or make another model the champion: prefopt registry rollback, or promote."
        )
    return StageOutput(storage, read_manifest(storage))
