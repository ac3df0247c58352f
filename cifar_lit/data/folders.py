"""Your own images, sorted into class folders."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.folder_cache import FolderImages, decode_folder
from cifar_lit.errors import InputError
from cifar_lit.inference.images import is_system_folder

_SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


class ClassFolders(ImageDataModule):
    """Your own images: ``root/train/<class>/*``, ``root/test/<class>/*`` and optionally ``root/val/<class>/*``.

    ``val`` may also be called ``valid`` or ``validation``, ``train`` ``training``, and ``test`` ``testing``. They are
    decoded once and cached, so that the next run starts within a second or two.

    Args:
        root: Folder that contains ``train`` and, for the ``test`` command, ``test``.
        image_size: Side length of the square that images are resized to (scaled to cover it, then center-cropped). By
            default, images that all have one size of up to 128 pixels keep it, and others are resized to 64.
        skip_unreadable: Skip and list files that cannot be read as images, instead of stopping.
        cache_dir: Where decoded images are cached; by default ``cifar_lit`` in the user's cache folder.
        **kwargs: See ImageDataModule.
    """

    def __init__(
        self,
        root: str,
        image_size: int | None = None,
        skip_unreadable: bool = False,
        cache_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if image_size is not None and image_size < 1:
            raise InputError(f"data.image_size must be at least 1, got {image_size}")
        self.root = Path(root).expanduser()
        self._size = None if image_size is None else (image_size, image_size)
        self._skip_unreadable = skip_unreadable
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir else user_cache_dir()

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the folders in ``root/train``, sorted."""
        if not self.root.is_dir():
            raise InputError(f"folder {self.root.absolute()} does not exist; choose another with --data.root")
        train = self._folders.get("train")
        if train is None:
            raise InputError(f"{self.root} has no folder train; sort the images into {self.root}/train/<class>/")
        names = _subfolders(train)
        if len(names) < 2:
            found = f"only one class folder, {names[0]!r}" if names else "no class folders"
            raise InputError(f"{train} has {found}; a classifier needs at least two")
        for name in names:
            if name.encode(errors="replace").decode() != name:
                raise InputError(f"{train} has a folder {name!r}, whose name is not UTF-8; rename it")
        for folder in self._folders.values():
            if unknown := sorted(set(_subfolders(folder)) - set(names)):
                raise InputError(
                    f"{folder} has a class that is missing from {train.name}: {', '.join(unknown)};"
                    f" rename or remove it, or add it to {train} (which has {', '.join(names)})"
                )
        return names

    @cached_property
    def _folders(self) -> dict[Split, Path]:
        """The folders of the splits that exist; prints the names of other folders."""
        found: dict[Split, Path] = {}
        others = _subfolders(self.root)
        for split, names in _SPLIT_NAMES.items():
            folders = [name for name in others if name.lower() in names]
            if len(folders) > 1:
                raise InputError(f"{self.root} has {' and '.join(folders)}, which mean the same: remove or rename one")
            others = [name for name in others if name not in folders]
            if folders:
                found[split] = self.root / folders[0]
        if others and "train" in found:
            rank_zero_only(print)(f"Folders of {self.root} that are not used: {', '.join(others)}")
        return found

    @property
    def image_size(self) -> tuple[int, int]:
        """The images' common size, or the size that they are resized to."""
        return self._train.image_size

    @property
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Computed from all images in ``train`` when they are decoded."""
        return self._train.mean, self._train.std

    @property
    def has_test_images(self) -> bool:
        """Whether there is a folder ``root/test``."""
        return "test" in self._folders

    def load(self, split: Split) -> ImageTensors | None:
        """Return the images of ``root/train``, ``root/val`` or ``root/test``; None if there is no such folder."""
        if split == "train":
            return self._train.images
        return self._decode(split, self.image_size).images if split in self._folders else None

    @cached_property
    def _train(self) -> FolderImages:
        decoded = self._decode("train", self._size)
        counts = torch.bincount(decoded.images.labels, minlength=self.num_classes)
        for name, count in zip(self.class_names, counts.tolist(), strict=True):
            if count == 0:
                raise InputError(
                    f"{self._folders['train'] / name} contains no images; add some of that class, or remove the folder"
                )
        return decoded

    def _decode(self, split: Split, size: tuple[int, int] | None) -> FolderImages:
        names = self.class_names  # raises if there is no folder
        return decode_folder(
            self._folders[split], names, self._cache_dir, size=size, skip_unreadable=self._skip_unreadable
        )


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_system_folder(path.name))


def user_cache_dir() -> Path:
    """Return the default folder for decoded images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar_lit"
