"""Pure drawing: arrays in, uint8 (H, W, 3) pictures out."""
