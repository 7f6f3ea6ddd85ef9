"""A module for each schema, named after its number: what is different from the one before."""
