"""Checks of what a visitor asks for: the page's own limits do not bind those who call it by other means."""

from collections.abc import Collection
from typing import Any, TypeVar

import gradio as gr

Choice = TypeVar("Choice")

MOST_BYTES = "10mb"  # of an uploaded file, as gradio writes it
MOST_IMAGES = 10  # uploads that are classified at a time
MOST_CLASSES = 10  # that are listed for an image


def check_int(name: str, value: Any, least: int, most: int) -> int:
    """The value, if it is a whole number in these limits.

    Raises:
        gr.Error: with what is expected, if it is not.
    """
    number = check_number(name, value, least, most)
    if number != int(number):
        raise gr.Error(f"{name} must be a whole number from {least} to {most}.", print_exception=False)
    return int(number)


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """The value, if it is a number in these limits.

    Raises:
        gr.Error: with what is expected, if it is not.
    """
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not least <= value <= most:
        raise gr.Error(f"{name} must be a number from {least} to {most}.", print_exception=False)
    return float(value)


def check_choice(name: str, value: Choice, choices: Collection[Choice]) -> Choice:
    """The value, if it is one of the choices.

    Raises:
        gr.Error: if it is not.
    """
    if not isinstance(value, str | int) or value not in choices:
        raise gr.Error(f"{name}: choose one of those that are offered.", print_exception=False)
    return value
