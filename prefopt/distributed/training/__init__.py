"""Preference fine-tuning on Ray Train and DeepSpeed: data, models, steps and checkpoints of the workers."""
