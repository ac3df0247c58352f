"""What watches a run: one Lightning callback a file; what they draw with is in ``callbacks.rendering``."""
