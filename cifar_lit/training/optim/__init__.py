"""Optimizers, learning-rate schedules and weight averaging, selectable in YAML."""
