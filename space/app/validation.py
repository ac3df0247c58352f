"""Validation of requests: API calls bypass the limits of the page's controls."""

from collections.abc import Collection
from typing import Any, TypeVar

import gradio as gr

Choice = TypeVar("Choice")

MAX_FILE_SIZE = "30mb"  # in gradio's notation
MAX_IMAGES = 10  # per upload
MAX_CLASSES = 10  # listed for each image


def check_int(name: str, value: Any, minimum: int, maximum: int) -> int:
    """Return the value as an integer.

    Raises:
        gr.Error: if it is not an integer within these limits.
    """
    number = check_number(name, value, minimum, maximum)
    if number != int(number):
        raise gr.Error(f"{name} must be a whole number from {minimum} to {maximum}.", print_exception=False)
    return int(number)


def check_number(name: str, value: Any, minimum: float, maximum: float) -> float:
    """Return the value as a float.

    Raises:
        gr.Error: if it is not a number within these limits.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not minimum <= value <= maximum:
        raise gr.Error(f"{name} must be a number from {minimum} to {maximum}.", print_exception=False)
    return float(value)


def check_choice(name: str, value: Choice, choices: Collection[Choice]) -> Choice:
    """Return the value.

    Raises:
        gr.Error: if it is not one of the choices.
    """
    if not isinstance(value, str | int) or value not in choices:
        raise gr.Error(f"{name}: choose one of the available options.", print_exception=False)
    return value
