"""The tests, at the paths of the modules they test."""
