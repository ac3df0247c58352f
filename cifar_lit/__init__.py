"""What is trained: data, networks, the classifier and its command line."""
