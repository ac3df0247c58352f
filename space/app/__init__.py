"""The page: a Gradio app that classifies and explains images."""
