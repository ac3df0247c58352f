"""Stress tests of the reliability benchmark only; those shared with the tests are in ``tests.support.stress``."""
