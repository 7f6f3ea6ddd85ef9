"""The tests of Cyme."""
