"""Stress tests shared by the tests and the reliability benchmark."""
