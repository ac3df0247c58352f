"""Inference without training code: model, bundle, image reading and prediction."""
