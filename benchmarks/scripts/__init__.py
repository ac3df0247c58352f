"""Baselines, each as one script that reads from top to bottom."""
