"""Data, networks, training, inference, evaluation and the command line of an image classifier."""
