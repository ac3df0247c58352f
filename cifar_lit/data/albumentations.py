"""Albumentations pipelines written as YAML lists and run per sample in the loader's workers."""

import copy
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar_lit.errors import InputError

_TRIALS = 4  # of a pipeline, with different random numbers


class AlbumentationsPipeline:
    """Apply albumentations transforms to each image of a batch.

    Args:
        transforms: One mapping per transform, from its name to its arguments, as in
            ``[{"HorizontalFlip": {"p": 0.5}}, {"OneOf": {"transforms": [{"Blur": {}}], "p": 0.1}}]``.
            The value ``mean`` for ``fill`` or ``fill_mask`` stands for the mean color of the dataset.
        mean: Mean of each channel of the dataset, in [0, 1].
        image_size: Height and width of the images.

    output_size: Height and width of the augmented images.

    Raises:
        InputError: If albumentations has no such transform or argument, a padding has no effect, or the output is not
            a uint8 image.
    """

    def __init__(
        self, transforms: Sequence[Mapping[str, Any]], mean: Sequence[float], image_size: tuple[int, int]
    ) -> None:
        self._mean_color = tuple(round(255 * channel) for channel in mean)
        self._image_size = image_size
        self._compose = _albumentations().Compose([self._build(entry) for entry in transforms])
        try:
            self._check_output()
        except InputError:
            raise
        except Exception as error:  # albumentations' own errors, e.g. of too large a crop, derive from Exception
            raise InputError(f"albumentations: {' '.join(str(error).split())}") from error

    def _check_output(self) -> None:
        """Try the pipeline with every optional transform, and without any, so that it fails before training begins."""
        image = torch.zeros(1, 3, *self._image_size, dtype=torch.uint8)
        given = self._compose
        sizes = set()
        for optional in (1.0, 0.0):
            self._compose = copy.deepcopy(given)
            for transform in _transforms(self._compose):
                transform.p = transform.p if transform.p in (0, 1) else optional
            for seed in range(_TRIALS):
                height, width = self(image, seed).shape[2:]
                sizes.add((height, width))
        self._compose = given
        if len(sizes) > 1:
            found = " and ".join(f"{height}x{width}" for height, width in sorted(sizes)[:2])
            raise InputError(
                f"albumentations: the pipeline returns images of different sizes, such as {found}; add a transform that"
                " sets the size, such as Resize or PadIfNeeded with RandomCrop"
            )
        self.output_size = sizes.pop()

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """Return augmented pixels, uint8 (N, 3, H', W'), of uint8 (N, 3, H, W); deterministic given the seed."""
        self._compose.set_random_seed(seed % 2**32)
        augmented = []
        for image in pixels.permute(0, 2, 3, 1).numpy():
            result = self._compose(image=np.ascontiguousarray(image))["image"]
            if result.dtype != np.uint8 or result.shape[2:] != (3,):
                raise InputError(
                    "albumentations: the pipeline must return uint8 images of shape (height, width, 3), got"
                    f" {result.dtype} of shape {tuple(result.shape)}; remove Normalize, ToFloat and ToTensorV2, since"
                    " the network normalizes its input itself"
                )
            augmented.append(result)
        return torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2).contiguous()

    def _build(self, entry: Mapping[str, Any]) -> Any:
        if len(entry) != 1:
            raise InputError(f"albumentations: each list entry must name exactly one transform, got {dict(entry)}")
        [(name, arguments)] = entry.items()
        transform_class = getattr(_albumentations(), name, None)
        if not inspect.isclass(transform_class):
            raise InputError(f"albumentations has no transform {name!r}; names are case-sensitive (HorizontalFlip)")
        arguments = arguments or {}
        if name == "CropAndPad" and arguments.get("fill") == "mean":
            raise InputError("albumentations.CropAndPad does not support fill: mean and would fill with gray; use Pad")
        arguments = {key: self._convert_argument(key, value) for key, value in arguments.items()}
        if name == "PadIfNeeded":
            self._check_padding(arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns when it ignores an argument
            warnings.filterwarnings("ignore", ".*(special case|deprecated)")  # of another transform
            try:
                return transform_class(**arguments)
            except (UserWarning, TypeError, ValueError) as error:
                raise InputError(f"albumentations.{name}: {' '.join(str(error).split())}") from error

    def _convert_argument(self, key: str, value: Any) -> Any:
        if key == "transforms":  # of OneOf, SomeOf, Sequential
            return [self._build(entry) for entry in value]
        if key in ("fill", "fill_mask") and value == "mean":
            return self._mean_color
        return tuple(value) if isinstance(value, list) else value

    def _check_padding(self, arguments: Mapping[str, Any]) -> None:
        height, width = self._image_size
        min_height, min_width = arguments.get("min_height", 1024), arguments.get("min_width", 1024)
        divisor = arguments.get("pad_height_divisor") or arguments.get("pad_width_divisor")
        if not divisor and min_height <= height and min_width <= width:
            raise InputError(
                f"albumentations.PadIfNeeded to {min_height}x{min_width} has no effect on images of {height}x{width};"
                f" set min_height and min_width to the size after padding, e.g. {height + 8} and {width + 8}"
            )


def _transforms(transform: Any) -> Iterator[Any]:
    """Yield all transforms within a composition, at any depth."""
    for part in getattr(transform, "transforms", ()):
        yield part
        yield from _transforms(part)


def _albumentations() -> ModuleType:
    """Import albumentations on first use, which takes 3 s, with its online version check disabled."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations
