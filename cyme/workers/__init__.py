"""The worker processes of a branch: command lines, processes spawned and adopted, their life."""
