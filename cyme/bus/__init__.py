"""The message bus between branches."""
