"""The embedded world: a tiny text-to-image universe whose true preferences are known (prefopt)."""

WORLD_VERSION = 2
