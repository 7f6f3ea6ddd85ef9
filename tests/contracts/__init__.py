"""For each interface the tests that all its providers pass."""
