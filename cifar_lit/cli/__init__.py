"""Command line: one registry of commands, the parser, its error messages and console output."""
