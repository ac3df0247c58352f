"""Pure drawing functions: arrays in, uint8 (H, W, 3) pictures out."""
