"""All figures of a data card, from four readings of the tables, one shard in memory at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from prefopt.card.annotators import People, annotator_name, describe_people
from prefopt.card.clusters import SAMPLE, Clusters, find_clusters
from prefopt.card.counts import Counts, count_data
from prefopt.card.duplicates import Duplicates, DuplicateSearch, Spellings
from prefopt.card.groups import Group, GroupTally
from prefopt.card.hashes import Hashes, column_hashes
from prefopt.card.people import AgreementTally, PeopleTally
from prefopt.card.prompts import plain_prompt
from prefopt.card.reasons import reasons
from prefopt.card.shards import Ints, Shard, Shards
from prefopt.card.shares import Mean, Share, mean_of_sums, share
from prefopt.card.suspicious import Suspect, SuspectSearch
from prefopt.card.times import TimeBins, moments
from prefopt.config.card import CardConfig
from prefopt.data.tables import Finished

GROUPS_SHOWN, WAYS_SHOWN = 10, 4
"""Groups of near-duplicate prompts that are shown, and spellings of each."""
NO_CATEGORY = "none given"


@dataclass(frozen=True)
class Listed:
    """A suspicious pair, with annotators as they may be named, and what speaks against its labels."""

    suspect: Suspect
    reasons: list[str]


@dataclass(frozen=True)
class Survey:
    """Everything that a data card says."""

    counts: Counts
    duplicates: Duplicates
    spellings: list[list[str]]
    """Some groups of near-duplicate prompts."""
    ties: Share
    """Of all votes."""
    contradicted: Share
    """Pairs whose votes name both winners, of those that two or more votes decide."""
    agreement: Mean
    """How often two people who judge one pair name the same winner."""
    people: People
    times: list[str]
    """When each time bin begins; none where votes carry no time."""
    clusters: list[Group]
    categories: list[Group]
    """None where no source gives any."""
    suspects: list[Listed]
    """The most suspicious first."""
    suspects_found: int
    """All pairs with a reason, listed or not."""
    has_panel: bool
    u_histogram: Ints
    """Labels by u, in equal bins of [0, 1]; all 0 without a panel."""


def survey(
    ingest: Finished, inject: Finished, score: Finished, config: CardConfig, progress: Callable[[int, int, str], None]
) -> Survey:
    """Read everything and count. `progress` is told (done, total, "readings")."""
    shards = Shards(ingest, inject, score)
    counts, votes = count_data(ingest, inject)
    progress(1, 4, "readings")
    bins, search = _times(shards), DuplicateSearch()
    for pairs in shards.pairs():
        search.add(pairs)
    progress(2, 4, "readings")
    spellings = search.spellings()
    sample, examples = _texts(shards, spellings)
    clusters = find_clusters(sample, config.clusters, config.seed)
    progress(3, 4, "readings")
    names = sorted(name for name, given in votes.items() if given >= config.least_votes)
    reading = _Reading(PeopleTally(names, bins), clusters, config.listed)
    for shard in shards:
        reading.add(shard)
    progress(4, 4, "readings")
    people = describe_people(reading.people, least=config.least_votes, shown=config.annotators == "shown")
    return Survey(
        counts=counts,
        duplicates=search.found(spellings),
        spellings=examples,
        ties=share(counts.ties, counts.votes),
        contradicted=share(reading.agreement.split, reading.agreement.pairs),
        agreement=mean_of_sums(reading.agreement.pairs, reading.agreement.total, reading.agreement.squares),
        people=people,
        times=bins.names(),
        clusters=reading.clusters.groups(),
        categories=reading.categories.groups() if reading.any_category else [],
        suspects=_listed(reading.suspects, people, shown=config.annotators == "shown"),
        suspects_found=reading.suspects.found,
        has_panel=reading.has_panel,
        u_histogram=reading.suspects.histogram,
    )


def _listed(search: SuspectSearch, people: People, *, shown: bool) -> list[Listed]:
    words = {annotator.name: annotator.stands_out for annotator in people.listed if annotator.stands_out}
    listed = []
    for suspect in search.suspects:
        named = [replace(one, annotator=annotator_name(one.annotator, shown=shown)) for one in suspect.judgements]
        known = replace(suspect, judgements=named)
        listed.append(Listed(known, reasons(known, search.share_below, words)))
    return listed


class _Reading:
    """The last reading of the shards: all that needs the earlier ones."""

    def __init__(self, people: PeopleTally, clusters: Clusters, listed: int) -> None:
        self.people, self.agreement = people, AgreementTally()
        self.clusters, self.categories = GroupTally(), GroupTally()
        self.suspects = SuspectSearch(listed)
        self.has_panel = self.any_category = False
        self._clusters = clusters

    def add(self, shard: Shard) -> None:
        prompts = shard.pairs["prompt"].combine_chunks().dictionary_encode()
        cluster = self._clusters.place(prompts.dictionary.to_pylist())[prompts.indices.to_numpy()]
        given = pc.fill_null(shard.pairs["category"], "").combine_chunks().dictionary_encode()
        categories = [name or NO_CATEGORY for name in given.dictionary.to_pylist()]
        self.people.add(shard)
        self.agreement.add(shard)
        self.clusters.add(shard, self._clusters.names, cluster)
        self.categories.add(shard, categories, given.indices.to_numpy())
        self.suspects.add(shard, self._clusters.names, cluster)
        self.has_panel |= shard.panel is not None
        self.any_category |= any(name != NO_CATEGORY for name in categories)


def _times(shards: Shards) -> TimeBins:
    return TimeBins.of(np.concatenate([moments(texts) for texts in shards.times()]))


def _texts(shards: Shards, spellings: Spellings) -> tuple[list[str], list[list[str]]]:
    """Prompts to find groups with, one spelling of each, and some near-duplicates; both the same for any shards."""
    sample = dict.fromkeys(spellings.plain[:SAMPLE].tolist(), "")
    groups: dict[int, set[str]] = {one: set() for one in spellings.groups[:GROUPS_SHOWN].tolist()}
    wanted = np.array([*sample, *groups], dtype=np.uint64)
    for pairs in shards.pairs():
        hashes: Hashes = column_hashes(pairs["prompt"], plain_prompt)
        rows = np.flatnonzero(np.isin(hashes, wanted))
        for plain, prompt in zip(hashes[rows].tolist(), pairs["prompt"].take(rows).to_pylist(), strict=True):
            if plain in groups:
                groups[plain].add(prompt)
            if plain in sample:
                sample[plain] = min(sample[plain] or prompt, prompt)
    return list(sample.values()), [sorted(ways)[:WAYS_SHOWN] for ways in groups.values()]
