"""Is it learning: what training figures say, in words, and what is done about it. Neither torch nor ray is needed."""
