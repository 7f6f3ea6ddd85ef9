"""The supervisor: gather what is, plan what to do, execute it."""
