"""Parts of a recipe that change weights: optimizers, schedules and averages that YAML names."""
