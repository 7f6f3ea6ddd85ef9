"""The verbs of Cyme, for HTTP and for Python."""
