"""Which pairs of images people are shown, which model stands on which side, and in what order: all by hashes."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefopt.data.ids import digest, row_uniform
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError

SCHEMA_VERSION = 1
KEY, RESULTS, SUMMARY = "key.json", "human.json", "human.md"
HexId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DrawnImage(_Record):
    """A prompt and the number of one of its samples: what every model has drawn."""

    prompt_id: str
    prompt: str
    sample: int


class Pair(_Record):
    """Two models' images of one prompt and sample, as they are shown."""

    drawn: DrawnImage
    left: str
    right: str
    repeats: HexId | None = None
    """The pair that this one shows again, with its sides swapped."""

    def swapped(self, pair_id: str) -> "Pair":
        """The same images the other way round."""
        return Pair(drawn=self.drawn, left=self.right, right=self.left, repeats=pair_id)


class Key(_Record):
    """What unblinds an evaluation's pairs: every pair that can be exported, and for each its repetition."""

    schema_version: int = SCHEMA_VERSION
    evaluation: str
    """The evaluate stage's key."""
    models: Annotated[tuple[str, ...], Field(min_length=2)]
    """Each of the others is compared with the first."""
    seed: int
    pairs: dict[HexId, Pair]

    def repetition(self, pair_id: str) -> str:
        """The id under which a pair is shown again."""
        return digest(str(self.seed), "human repetition", self.evaluation, pair_id)


def make_key(drawn: Iterable[DrawnImage], models: Sequence[str], evaluation: str, seed: int) -> Key:
    """All pairs of an evaluation. Ids, sides and order follow from (seed, evaluation, prompt, sample, model) alone.

    The evaluation's key is in no exported file, so that an id tells nothing to those who know this code.
    """
    key = Key(evaluation=evaluation, models=tuple(models), seed=seed, pairs={})
    for image in drawn:
        for model in models[1:]:
            row = (evaluation, model, image.prompt_id, str(image.sample))
            pair_id = digest(str(seed), "human pair", *row)
            sides = (model, models[0]) if row_uniform(seed, "human side", *row) < 0.5 else (models[0], model)
            pair = Pair(drawn=image, left=sides[0], right=sides[1])
            key.pairs[pair_id] = pair
            key.pairs[key.repetition(pair_id)] = pair.swapped(pair_id)
    return key


def chosen_pairs(
    key: Key, *, most: int | None = None, repeat_share: float = 0.0, prompts: set[str] | None = None
) -> list[str]:
    """Ids of the pairs to show, shuffled: the first `most` in hash order, and a share of them a second time.

    `prompts`: only pairs of these prompt ids. More pairs or a larger share only add to what fewer or a smaller give.
    """

    def order(purpose: str, pair_id: str) -> tuple[float, str]:
        return row_uniform(key.seed, purpose, key.evaluation, pair_id), pair_id

    first = [
        pair_id
        for pair_id, pair in key.pairs.items()
        if pair.repeats is None and (prompts is None or pair.drawn.prompt_id in prompts)
    ]
    first = sorted(first, key=lambda pair_id: order("human choice", pair_id))[:most]
    again = sorted(first, key=lambda pair_id: order("human repeat", pair_id))[: round(repeat_share * len(first))]
    shown = [*first, *map(key.repetition, again)]
    return sorted(shown, key=lambda pair_id: order("human row", pair_id))


def image_name(key: Key, pair_id: str, side: str) -> str:
    """The file of one side of a pair. An image that is in several pairs has as many names."""
    return f"images/{digest(str(key.seed), 'human image', key.evaluation, pair_id, side)}.png"


def human_directory(run: Storage, evaluation: str) -> Storage:
    """Where the key and the results of one evaluation lie in a run directory: human/<start of the stage's key>."""
    return run.child(f"human/{evaluation[:12]}")


def write_key(place: Storage, key: Key) -> None:
    """Write key.json. ConfigError if another one is there: votes on its pairs could not be read any more."""
    text = key.model_dump_json(indent=1).encode() + b"\n"
    if place.exists(KEY) and place.read_bytes(KEY) != text:
        raise ConfigError(
            f"{place.uri}/{KEY} belongs to pairs that were made in another way. Votes on them need it: keep it"
            " elsewhere before you export again."
        )
    place.write_bytes(KEY, text)


def read_key(place: Storage) -> Key:
    """Read key.json; InputError if there is none or it is damaged."""
    if place.size(KEY) is None:
        raise InputError(
            f"There is no {place.uri}/{KEY}: votes can only be read for pairs that `--export-pairs` wrote from this run"
            " with this config."
        )
    try:
        return Key.model_validate_json(place.read_bytes(KEY))
    except ValidationError as error:
        detail = error.errors()[0]["msg"]
        raise InputError(f"{place.uri}/{KEY} is damaged ({detail}): export the pairs again.") from None
