"""What this project is held against, each as one script that is read from top to bottom."""
