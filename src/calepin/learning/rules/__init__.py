"""One file a rule: how atoms, filters or weights move in a step."""
