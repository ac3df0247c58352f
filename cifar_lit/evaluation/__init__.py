"""Evaluation of classifiers in pure PyTorch, shared by callbacks, Space and report."""
