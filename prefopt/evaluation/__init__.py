"""Evaluation: images, statistics, and the report."""
