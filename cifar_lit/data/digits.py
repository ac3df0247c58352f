"""The built-in default: scikit-learn's handwritten digits, which need no download."""

from functools import cached_property

import torch
import torch.nn.functional as F

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.statistics import mean_and_std

# First row of each split. scikit-learn keeps the order of the forms, one per person; a form begins with the digits 0 to
# 9, twice, and so does each of these splits.
_STARTS: dict[Split, int] = {"train": 0, "val": 1029, "test": 1415}


class Digits(ImageDataModule):
    """1,797 handwritten digits from scikit-learn, as 32x32 RGB images, divided by writer.

    The validation and the test images, a fifth each, were written by people who wrote none of the training images.

    Source: E. Alpaydin & C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), UCI repository.
    """

    @property
    def class_names(self) -> list[str]:
        """The digits' names, zero to nine."""
        return ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

    @property
    def image_size(self) -> tuple[int, int]:
        """32x32, enlarged from 8x8."""
        return 32, 32

    @cached_property
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Computed from the training images."""
        return mean_and_std(self._splits["train"].pixels)

    def load(self, split: Split) -> ImageTensors:
        """Return the images of the split."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> dict[Split, ImageTensors]:
        from sklearn.datasets import load_digits  # 1.5 s to import

        digits = load_digits()
        gray = torch.from_numpy(digits.images).unsqueeze(1) * (255 / 16)  # (1797, 1, 8, 8), 0 to 255
        enlarged = F.interpolate(gray, size=(32, 32), mode="bilinear", align_corners=False)
        pixels = enlarged.round().to(torch.uint8).repeat(1, 3, 1, 1)
        labels = torch.from_numpy(digits.target).long()
        cuts = list(_STARTS.values())[1:]
        pairs = zip(pixels.tensor_split(cuts), labels.tensor_split(cuts), strict=True)
        return {split: ImageTensors(*pair) for split, pair in zip(_STARTS, pairs, strict=True)}
