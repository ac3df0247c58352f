"""The built-in default: scikit-learn's handwritten digits, which need no download."""

from functools import cached_property

import torch
import torch.nn.functional as F

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.splits import hold_out
from cifar_lit.data.statistics import mean_and_std

_TEST_FRACTION = 0.2
_TEST_SEED = 0  # fixed, so that no option changes the test images


class Digits(ImageDataModule):
    """1,797 handwritten digits from scikit-learn, as 32x32 RGB images; a fifth of them are the test images.

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

    def load(self, split: Split) -> ImageTensors | None:
        """Return the training or test images; None for ``val``, which is held out of the training images."""
        return self._splits.get(split)

    @cached_property
    def _splits(self) -> dict[str, ImageTensors]:
        from sklearn.datasets import load_digits  # 1.5 s to import

        digits = load_digits()
        gray = torch.from_numpy(digits.images).unsqueeze(1) * (255 / 16)  # (1797, 1, 8, 8), 0 to 255
        enlarged = F.interpolate(gray, size=(32, 32), mode="bilinear", align_corners=False)
        pixels = enlarged.round().to(torch.uint8).repeat(1, 3, 1, 1)
        labels = torch.from_numpy(digits.target).long()
        train, test = hold_out(labels, _TEST_FRACTION, _TEST_SEED, self.class_names)
        return {"train": ImageTensors(pixels[train], labels[train]), "test": ImageTensors(pixels[test], labels[test])}
