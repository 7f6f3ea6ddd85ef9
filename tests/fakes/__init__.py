"""Stand-ins for unit tests; each passes the contract of what it stands in for."""
