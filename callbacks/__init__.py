"""Lightning callbacks, one per file; they draw with ``callbacks.rendering``."""
