"""The config tree: one branch per stage and one for the cluster. Imports neither torch nor ray nor kfp."""

from prefopt.config.load import dump_config, load_comparison, load_config, load_text, parse_config
from prefopt.config.root import RunConfig

__all__ = ["RunConfig", "dump_config", "load_comparison", "load_config", "load_text", "parse_config"]
