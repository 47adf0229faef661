"""Which image features a config asks for: what they need, what identifies them, and how they are loaded on a worker."""

import importlib
from dataclasses import dataclass
from types import ModuleType

from prefopt.config import RunConfig
from prefopt.config.base import VALUE_BYTES
from prefopt.config.features import ClipFeatures, Dinov2Features
from prefopt.config.root import ModelConfig
from prefopt.features.base import Embedder, EmbedderSpec
from prefopt.models.identity import vae_digest
from prefopt.rewards.base import Resources
from prefopt.rewards.files import CLIP_MODEL, CLIP_PIXELS, FileSet
from prefopt.rewards.places import Place, Sources, find
from prefopt.rewards.published import sources_of

FIELD = "evaluate.features.weights"
FILES = FileSet(needed=(*CLIP_MODEL.needed, *CLIP_PIXELS), safe=CLIP_MODEL.safe, pickled=CLIP_MODEL.pickled)
"""Of a CLIP and of a DINOv2 in transformers' layout."""
_ROLE = "weights"
_VERSIONS = {"vae": 1, "clip": 1, "dinov2": 1}
"""Raised by hand when the same images give other rows."""
_SIZES = {"clip": (304e6, 0.162e12), "dinov2": (86.6e6, 0.046e12)}
"""Parameters, and FLOPs of one image, of the default weights: CLIP ViT-L/14's image side, DINOv2 ViT-B/14."""
FEATURE_VALUES = {"vae": 256, "clip": 768, "dinov2": 768}
"""Numbers in the row of an image: of a VAE with 4 latent channels, and of the default weights."""


def embedder_spec(config: RunConfig) -> EmbedderSpec | None:
    """The image features of `evaluate.features`; None where none are wanted. Nothing is loaded, and of a hub id
    nothing is fetched. InputError if weights are not there, or are pickled and that is not allowed."""
    features, device = config.evaluate.features, config.cluster.device
    if features is None:
        return None
    code = _VERSIONS[features.kind]
    if features.kind == "vae":
        version = f"vae {code} fp32 {vae_digest(config.model)[:32]}"
        return EmbedderSpec("vae", version, _LoadVae(config.model, device))
    sources, precision = sources_of(config), config.rewards.precision
    place = find(features.weights, FILES, FIELD, sources)
    version = f"{features.kind} {code} {precision} {place.digest[:32]}"
    return EmbedderSpec(features.kind, version, _Load(features, place, sources, device, precision))


def feature_resources(config: RunConfig) -> Resources:
    """What the image features hold besides the base model's parts, and take for an image, if the weights are the
    default's; zero for `vae`, which is the model's own."""
    features = config.evaluate.features
    if features is None or features.kind == "vae":
        return Resources()
    parameters, flops = _SIZES[features.kind]
    return Resources(memory=parameters * VALUE_BYTES[config.rewards.precision], flops=flops)


@dataclass(frozen=True)
class _LoadVae:
    """Loads the base model's VAE where it is called: on a worker."""

    model: ModelConfig
    device: str

    def __call__(self) -> Embedder:
        from prefopt.models.loading import load_vae

        made: Embedder = _module("vae").VaeEmbedder(load_vae(self.model), self.device)
        return made


@dataclass(frozen=True)
class _Load:
    """Loads a network with weights of its own where it is called: on a worker."""

    features: ClipFeatures | Dinov2Features
    place: Place
    sources: Sources
    device: str
    precision: str

    def __call__(self) -> Embedder:
        from prefopt.rewards.parts import Parts

        kind = self.features.kind
        places = {_ROLE: self.place}
        parts = Parts.fetch(kind, self.features, places, self.sources, device=self.device, precision=self.precision)
        made: Embedder = _module(kind).load(parts)
        return made


def _module(kind: str) -> ModuleType:
    """The module of a kind; what it imports is heavy, so that this waits until it is needed."""
    return importlib.import_module(f"prefopt.features.{kind}")
