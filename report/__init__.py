"""A run as a report that can be handed in: what was trained, how good it is, and why."""
