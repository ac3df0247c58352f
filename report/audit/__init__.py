"""The ``audit`` command: find faulty and duplicate images."""
