"""What a grid says: one question a module, each a pure function from outcomes to figures."""
