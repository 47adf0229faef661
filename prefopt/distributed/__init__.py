"""Ray: planned work units on Ray Data, training on Ray Train with DeepSpeed."""
