"""The stages: the order of work, nothing else."""
