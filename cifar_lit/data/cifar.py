"""CIFAR-10 and CIFAR-100, downloaded and verified by torchvision on first use."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.errors import InputError

_DATASET_ERRORS = (OSError, RuntimeError, EOFError)  # raised by torchvision if the archive is missing or damaged


class _CIFAR(ImageDataModule):
    """Base class of the two datasets: 60,000 images of 32x32 pixels, 10,000 of them for testing.

    Args:
        root: Folder to download to.
        **kwargs: See ImageDataModule.
    """

    torchvision_name: ClassVar[str]
    download_size: ClassVar[str]

    def __init__(self, root: str = "data", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self._loaded: dict[Split, ImageTensors] = {}

    @property
    def image_size(self) -> tuple[int, int]:
        """Always 32x32."""
        return 32, 32

    @property
    def is_downloaded(self) -> bool:
        """Whether the images are in ``root`` and intact."""
        try:
            self._dataset(train=False, download=False)
        except _DATASET_ERRORS:
            return False
        return True

    def load(self, split: Split) -> ImageTensors | None:
        """Return the training or test images; None for ``val``, which is held out of the training images."""
        if split == "val":
            return None
        if split not in self._loaded:
            self._loaded[split] = self._read(train=split == "train")
        return self._loaded[split]

    def _read(self, train: bool) -> ImageTensors:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{self.torchvision_name}.lock"):  # one process downloads, the others wait
                dataset = self._dataset(train, download=True)
        except PermissionError as error:
            raise InputError(
                f"cannot write to {self.root.absolute()} ({error}); choose another folder with --data.root"
            ) from error
        except _DATASET_ERRORS as error:
            raise InputError(
                f"{self.torchvision_name} could not be downloaded to {self.root.absolute()} or is damaged there"
                f" ({' '.join(str(error).split())}); with a network connection, delete the folder's content and start"
                f" again ({self.download_size}); without one, copy the archive there from another machine, or train on"
                " your own images: --data ClassFolders --data.root DIR"
            ) from error
        pixels = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
        return ImageTensors(pixels, torch.tensor(dataset.targets))

    def _dataset(self, train: bool, download: bool) -> Any:
        from torchvision import datasets  # 4 s to import

        return getattr(datasets, self.torchvision_name)(self.root, train=train, download=download)


class CIFAR10(_CIFAR):
    """CIFAR-10: ten classes of animals and vehicles, downloaded and verified on first use (170 MB).

    Args:
        root: Folder to download to.
        **kwargs: See ImageDataModule.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """

    torchvision_name = "CIFAR10"
    download_size = "170 MB"

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the archive's batches.meta."""
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    @property
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Over all pixels of the 50,000 training images, as first published with cifar10-fast (D. Page, 2018)."""
        return [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


class CIFAR100(_CIFAR):
    """CIFAR-100: a hundred classes, downloaded and verified on first use (169 MB).

    Args:
        root: Folder to download to.
        **kwargs: See ImageDataModule.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """

    torchvision_name = "CIFAR100"
    download_size = "169 MB"

    @property
    def class_names(self) -> list[str]:
        """The fine labels in the order of the archive's meta file (alphabetical)."""
        return _CIFAR100_NAMES.split()

    @property
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Over all pixels of the 50,000 training images, as in weiaicunzai/pytorch-cifar100."""
        return [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]


_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
