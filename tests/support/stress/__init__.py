"""Faults on purpose, shared by the tests and the reliability benchmark."""
