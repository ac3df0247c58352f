"""What is shown: the page, and the commands that make a folder of it that runs by itself."""
