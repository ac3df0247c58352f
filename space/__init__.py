"""The web page of a trained classifier, and the commands that export it."""
