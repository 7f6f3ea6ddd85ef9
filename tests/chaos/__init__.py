"""What is known to go wrong, against real workers and a private broker."""
