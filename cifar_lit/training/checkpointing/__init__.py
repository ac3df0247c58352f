"""Checkpoints from which a run resumes exactly, and graceful shutdown."""
