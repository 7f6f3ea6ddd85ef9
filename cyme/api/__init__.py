"""The HTTP API: route declarations, what they read and answer, and the site that serves them."""
