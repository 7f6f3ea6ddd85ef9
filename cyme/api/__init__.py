"""The HTTP API: Klein resources, one module for each kind of thing."""
