"""What the project says of itself, as commands that measure it: ``python -m benchmarks --help``."""
