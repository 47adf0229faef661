"""Image features by the config's `evaluate.features`."""

from prefopt.features.base import Embedder, EmbedderSpec, embedded
from prefopt.features.registry import FEATURE_VALUES, embedder_spec, feature_resources

__all__ = ["FEATURE_VALUES", "Embedder", "EmbedderSpec", "embedded", "embedder_spec", "feature_resources"]
