"""Albumentations pipelines written as YAML lists: any transform, sample by sample, in the loader's workers."""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar_lit.errors import InputError


class AlbumentationsPipeline:
    """Applies albumentations transforms to the images of a batch one by one.

    Args:
        transforms: One mapping for each transform, its name to its arguments, as in
            ``[{"HorizontalFlip": {"p": 0.5}}, {"OneOf": {"transforms": [{"Blur": {}}], "p": 0.1}}]``.
            The value ``mean`` of a ``fill`` or ``fill_mask`` stands for the data's mean colour.
        mean: The data's mean of each channel, in [0, 1].
        image_size: Height and width of the images.

    Raises:
        InputError: if albumentations has no such transform or argument, a pad would change nothing, or what comes out
            is no image of bytes.
    """

    def __init__(
        self, transforms: Sequence[Mapping[str, Any]], mean: Sequence[float], image_size: tuple[int, int]
    ) -> None:
        self._colour = tuple(round(255 * channel) for channel in mean)
        self._image_size = image_size
        self._compose = _albumentations().Compose([self._transform(entry) for entry in transforms])
        try:  # what fails always fails here, before training begins
            self(torch.zeros(1, 3, *image_size, dtype=torch.uint8), 0)
        except InputError:
            raise
        except Exception as error:  # a crop larger than the image, for one, is no error of Python's own kinds
            raise InputError(f"albumentations: {' '.join(str(error).split())}") from error

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """Augmented pixels, uint8 (N, 3, H', W'), of uint8 (N, 3, H, W); the same for the same seed."""
        self._compose.set_random_seed(seed % 2**32)
        images = pixels.permute(0, 2, 3, 1).numpy()
        augmented = [self._checked(self._compose(image=np.ascontiguousarray(image))["image"]) for image in images]
        return torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2).contiguous()

    def _checked(self, image: Any) -> Any:
        if image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise InputError(
                f"albumentations: an image comes out as {image.dtype} of shape {tuple(image.shape)}, not as uint8 of"
                " (height, width, 3): leave out Normalize, ToFloat and ToTensorV2, since the network does as much"
            )
        return image

    def _transform(self, entry: Mapping[str, Any]) -> Any:
        if len(entry) != 1:
            raise InputError(f"albumentations: each entry of the list names one transform, got {dict(entry)}")
        [(name, arguments)] = entry.items()
        transform_class = getattr(_albumentations(), name, None)
        if not inspect.isclass(transform_class):
            raise InputError(f"albumentations has no transform {name!r}; its names are case-sensitive (HorizontalFlip)")
        arguments = arguments or {}
        if name == "CropAndPad" and arguments.get("fill") == "mean":
            raise InputError("albumentations.CropAndPad paints grey, in one channel's value: take Pad with fill: mean")
        arguments = {key: self._argument(key, value) for key, value in arguments.items()}
        if name == "PadIfNeeded":
            self._check_pad(arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of an argument that it drops
            try:
                return transform_class(**arguments)
            except (UserWarning, TypeError, ValueError) as error:
                raise InputError(f"albumentations.{name}: {' '.join(str(error).split())}") from error

    def _argument(self, key: str, value: Any) -> Any:
        if key == "transforms":  # of OneOf, SomeOf, Sequential
            return [self._transform(entry) for entry in value]
        if key in ("fill", "fill_mask") and value == "mean":
            return self._colour
        return tuple(value) if isinstance(value, list) else value

    def _check_pad(self, arguments: Mapping[str, Any]) -> None:
        height, width = self._image_size
        to_height, to_width = arguments.get("min_height", 1024), arguments.get("min_width", 1024)
        divided = arguments.get("pad_height_divisor") or arguments.get("pad_width_divisor")
        if not divided and to_height <= height and to_width <= width:
            raise InputError(
                f"albumentations.PadIfNeeded to {to_height}x{to_width} changes nothing, since the images are"
                f" {height}x{width}; min_height and min_width are the size after padding,"
                f" e.g. {height + 8} and {width + 8}"
            )


def _albumentations() -> ModuleType:
    """The library, imported when it is first used (3 s), and kept from asking the network for its newest version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations
