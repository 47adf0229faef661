"""Finished evaluations of several runs, side by side."""
