"""Pipelines, runs and schedules of Kubeflow Pipelines."""
