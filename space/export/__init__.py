"""Commands that turn a checkpoint into a Space."""
