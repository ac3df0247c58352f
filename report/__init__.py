"""The ``report`` command: a run, or a comparison of runs, as a Markdown and HTML document."""
