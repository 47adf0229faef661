"""Image features by the config's `evaluate.features`."""

from prefopt.features.base import Embedder, EmbedderSpec, embedded
from prefopt.features.registry import embedder_spec, feature_resources

__all__ = ["Embedder", "EmbedderSpec", "embedded", "embedder_spec", "feature_resources"]
