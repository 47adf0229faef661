"""The image that all components run in. Its tag is the version of prefopt."""

IMAGE = "prefopt:0.1.0"
