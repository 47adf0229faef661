"""Where reward models come from: published weights, an HTTP endpoint, or a class of another package."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, model_validator

from prefopt.config.base import Branch, Count, Positive
from prefopt.config.urls import check_url

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K@1c2b8495b28150b8a4922ee1c8edee224c284c0c"
CLIP_L = "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41"
PLACES = ("weights", "processor", "tokenizer", "backbone")
"""Fields of the published models that say where files lie."""
_WORLD = "world/"


class PickScoreModel(Branch):
    """PickScore v1 (arXiv 2305.01569): logit scale times cosine."""

    kind: Literal["pickscore"] = "pickscore"
    weights: str = "yuvalkirstain/PickScore_v1@a4e4367c6dfa7288a00c550414478f865b875800"
    """A hub id (owner/name@revision), a directory, or an s3:// prefix: config.json and model.safetensors."""
    processor: str = CLIP_H
    """Where preprocessor_config.json, vocab.json and merges.txt lie."""


class Hpsv2Model(Branch):
    """Human Preference Score v2 and v2.1 (arXiv 2306.09341): the cosine. Their scores are not comparable."""

    kind: Literal["hpsv2", "hpsv2.1"]
    weights: str = "xswu/HPSv2@697403c78157020a1ae59d23f111aa58ced35b0a"
    """Where HPS_v2_compressed.pt or HPS_v2.1_compressed.pt lies, or the same file as .safetensors."""
    tokenizer: str = CLIP_H
    """Where vocab.json and merges.txt lie."""
    antialias: bool = True
    """As torchvision resizes tensors from 0.17 on; earlier versions did not smooth when making an image smaller."""


class ImageRewardModel(Branch):
    """ImageReward v1.0 (arXiv 2304.05977), standardised."""

    kind: Literal["imagereward"] = "imagereward"
    weights: str = "zai-org/ImageReward@5736be03b2652728fb87788c9797b0570450ab72"
    """Where med_config.json and ImageReward.pt lie, or the same weights as ImageReward.safetensors."""
    tokenizer: str = "google-bert/bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594"
    """Where vocab.txt lies."""


class AestheticModel(Branch):
    """LAION's aesthetic predictor (sac+logos+ava1-l14-linearMSE). The prompt plays no part."""

    kind: Literal["aesthetic"] = "aesthetic"
    weights: str = "ttj/sac-logos-ava1-l14-linearMSE@1e77fa05081323d99725fc40a9bf9f88180490e7"
    """Where the head lies: model.safetensors, or sac+logos+ava1-l14-linearMSE.pth."""
    backbone: str = CLIP_L
    """CLIP ViT-L/14: config.json, model.safetensors, preprocessor_config.json."""


class ClipModel(Branch):
    """CLIP score: the cosine of a CLIP's image and text embeddings."""

    kind: Literal["clip"] = "clip"
    weights: str = CLIP_L
    """The backbone: config.json, model.safetensors, preprocessor_config.json, vocab.json, merges.txt."""


def shown_url(url: str) -> str:
    """A URL without what may be secret: its user, its password, and the values of its query."""
    parts = urlsplit(url)
    user = "***@" if parts.username is not None or parts.password is not None else ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}{host}{parts.path}{'?***' if parts.query else ''}"


class HttpModel(Branch):
    """A reward model behind HTTP: PNG images and prompts as JSON, numbers back."""

    kind: Literal["http"]
    url: Annotated[str, Field(repr=False), PlainSerializer(shown_url)]
    """http:// or https://. User and password in it are sent as basic authentication and never logged."""
    version: Annotated[str, Field(min_length=1)]
    """Change it whenever the endpoint's scores may change: it is part of the keys of stored scores."""
    timeout: Positive = 60.0
    """Seconds for a whole request, from connecting to the answer's last byte."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """After a failed connection, a timeout, status 429, or status 5xx."""
    backoff: Annotated[float, Field(ge=0.0)] = 1.0
    """Seconds before the first retry; doubled for each further one, 30 at most."""
    batch: Count = 16
    """Images per request, at most."""
    request_mb: Positive = 32.0
    """Size of a request, at most: batches are cut to it, and a single larger image is refused."""

    @model_validator(mode="after")
    def _url_can_be_asked(self) -> "HttpModel":
        check_url("url", self.url)
        return self


class EntryPointModel(Branch):
    """A class or function that an installed package registers in the group `prefopt.rewards`."""

    kind: Literal["entry_point"]
    entry_point: str | None = None
    """Its registered name; by default the reward's own name."""
    options: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Given to it by name."""


RewardModel = PickScoreModel | Hpsv2Model | ImageRewardModel | AestheticModel | ClipModel | HttpModel | EntryPointModel
PUBLISHED: dict[str, RewardModel] = {
    "pickscore": PickScoreModel(),
    "hpsv2": Hpsv2Model(kind="hpsv2"),
    "hpsv2.1": Hpsv2Model(kind="hpsv2.1"),
    "imagereward": ImageRewardModel(),
    "aesthetic": AestheticModel(),
    "clip": ClipModel(),
}
"""Rewards that need no entry in the config, at their published places."""


class RewardsConfig(Branch):
    """Reward models: where their weights are, and how they are computed."""

    allow_pickles: bool = False
    """Read weights that are published as pickled files (.pt, .pth, .bin) alone. They are read without running code
    from them, and converted once per machine."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the published models' weights and activations."""
    cache: str | None = None
    """A directory on each machine for weights from s3:// and converted ones; by default ~/.cache/prefopt."""
    models: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$")],
        Annotated[RewardModel, Field(discriminator="kind")],
    ] = Field(default_factory=dict)
    """Rewards of your own by name, or other places for the published ones, whose `kind` is their name."""

    @model_validator(mode="before")
    @classmethod
    def _published_names_say_their_kind(cls, tree: Any) -> Any:
        models = tree.get("models") if isinstance(tree, dict) else None
        if not isinstance(models, dict):
            return tree
        named = {
            name: {"kind": name, **model} if name in PUBLISHED and isinstance(model, dict) else model
            for name, model in models.items()
        }
        return {**tree, "models": named}

    @model_validator(mode="before")
    @classmethod
    def _others_have_one(cls, tree: Any) -> Any:
        models = tree.get("models") if isinstance(tree, dict) else None
        for name, model in models.items() if isinstance(models, dict) else ():
            if isinstance(model, dict) and "kind" not in model and name not in PUBLISHED:
                kinds = ", ".join([*PUBLISHED, "http", "entry_point"])
                raise ValueError(f"models.{name} needs a kind: one of {kinds}")
        return tree

    @model_validator(mode="after")
    def _names_mean_what_they_say(self) -> "RewardsConfig":
        for name, model in self.models.items():
            if name.startswith(_WORLD):
                raise ValueError(f"models.{name}: names that begin with {_WORLD} are the embedded world's")
            if name in PUBLISHED and model.kind != name:
                raise ValueError(f"models.{name}: a {model.kind} reward needs another name")
        return self

    def model(self, name: str) -> RewardModel | None:
        """What stands behind a name; None for the embedded world's rewards and those of other packages."""
        return self.models.get(name) or PUBLISHED.get(name)

    def identity(self, name: str) -> str:
        """The same for two names of one model, wherever its weights are: a judge must not be hidden by a new name."""
        model = self.model(name)
        if model is None:
            return f"entry_point {name} {{}}"
        if isinstance(model, HttpModel):
            return f"http {model.url}"
        if isinstance(model, EntryPointModel):
            return f"entry_point {model.entry_point or name} {json.dumps(model.options, sort_keys=True)}"
        return f"clip {model.weights}" if isinstance(model, ClipModel) else model.kind
