"""The command line. The only place that sets up logging and decides exit codes."""

from prefopt.cli.app import main

__all__ = ["main"]
