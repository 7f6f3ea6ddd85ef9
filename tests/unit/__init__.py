"""Tests without a broker, a process or a pause."""
