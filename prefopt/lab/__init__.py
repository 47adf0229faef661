"""The label-noise laboratory: many runs that differ in objective, noise and seed, and what can be said of them."""
