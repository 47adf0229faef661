"""Tables, ids, manifests, stores and sources of preference data."""
