"""Commands that measure the project's claims: ``python -m benchmarks --help``."""
