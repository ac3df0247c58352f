"""Your own images, sorted into class folders."""

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import ImageDataModule, Split
from cifar_lit.data.folder_cache import FolderImages, ImageFile, decode_folder, list_files
from cifar_lit.data.splits import hold_out
from cifar_lit.errors import InputError
from cifar_lit.inference.images import Fit, Interpolation, is_system_folder

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


class ClassFolders(ImageDataModule):
    """Your own images: ``root/<class>/*``, or ``root/train/<class>/*`` with ``root/test`` and ``root/val``, if any.

    Without a folder ``train``, test images are held out, stratified by class and the same in every run. ``val`` may
    also be called ``valid`` or ``validation``, ``train`` ``training``, and ``test`` ``testing``. The images are decoded
    once and cached, so that the next run starts within a second or two.

    Args:
        root: Folder that contains the classes, or ``train`` and, for the ``test`` command, ``test``.
        test_fraction: Fraction of the images held out as ``test`` if there is no folder ``train``; 0 for none.
        group_pattern: Regular expression for the group (a patient, a video, a burst of photos) in an image's path
            below ``train`` or ``root``: what its first pair of parentheses matches, or all of it. The images of a group
            stay together when images are held out.
        image_size: Side of the square that images are resized to, or ``[height, width]``. By default, images that all
            have one size of up to 128 pixels keep it, and others are resized to 64.
        decode_size: Side of the square, or ``[height, width]``, that training images are decoded to if they are to be
            cropped to ``image_size`` by an augmentation such as RandomResizedCrop; by default ``image_size``.
        fit: How to fit images of another aspect ratio: ``crop`` the center, ``pad`` with gray, or ``stretch``. Part of
            the trained model: ``predict``, report and Space do the same.
        interpolation: How to resize, ``bilinear`` or ``bicubic``, both with antialiasing; part of the trained model.
            By default as in the training of a pretrained network, otherwise ``bilinear``.
        skip_unreadable: Skip and list files that cannot be read as images, instead of stopping.
        cache_dir: Where decoded images are cached; by default ``cifar_lit`` in the user's cache folder.
        **kwargs: See ImageDataModule.
    """

    def __init__(
        self,
        root: str,
        test_fraction: float = 0.1,
        group_pattern: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        decode_size: int | tuple[int, int] | None = None,
        fit: Fit = "crop",
        interpolation: Interpolation | None = None,
        skip_unreadable: bool = False,
        cache_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= test_fraction < 1:
            raise InputError(f"data.test_fraction must be at least 0 and below 1, got {test_fraction}")
        try:
            self._group_pattern = None if group_pattern is None else re.compile(group_pattern)
        except re.error as error:
            raise InputError(f"data.group_pattern is not a regular expression: {error}") from error
        self._test_fraction = test_fraction
        self.root = Path(root).expanduser()
        self.fit, self.interpolation = fit, interpolation or "bilinear"
        self._size, self._decode_size = _to_size("image_size", image_size), _to_size("decode_size", decode_size)
        self._skip_unreadable = skip_unreadable
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir else user_cache_dir()
        # Images by the split of their folder, used instead of decoding the files; their pixels may be (N, 3, 0, 0)
        self.undecoded: Mapping[Split, ImageTensors] = {}

    @cached_property
    def class_names(self) -> list[str]:
        """The names of the folders in ``root/train`` or ``root``, sorted."""
        if self.root.suffix == ".csv":
            raise InputError(f"{self.root} is a table; read it with --data ImageTable --data.file {self.root}")
        if not self.root.is_dir():
            raise InputError(f"folder {self.root.absolute()} does not exist; choose another with --data.root")
        train = self._folders.get("train")
        if train is None:
            raise InputError(
                f"{self.root} has {' and '.join(self._folders)}, but no folder train; sort the images into"
                f" {self.root}/train/<class>/"
            )
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
        for split, names in SPLIT_NAMES.items():
            folders = [name for name in others if name.lower() in names]
            if len(folders) > 1:
                raise InputError(f"{self.root} has {' and '.join(folders)}, which mean the same: remove or rename one")
            others = [name for name in others if name not in folders]
            if folders:
                found[split] = self.root / folders[0]
        if others and "train" in found:
            rank_zero_only(print)(f"Folders of {self.root} that are not used: {', '.join(others)}")
        return found or {"train": self.root}

    def folder(self, split: Split) -> Path:
        """Return the folder that the files of a split are relative to; that of ``train`` for held-out images."""
        return self._folders.get(split, self._folders["train"])

    def files(self) -> dict[Split, list[ImageFile]]:
        """Return the files in the folder of each split, unread; held-out images are in that of ``train``."""
        names = self.class_names  # raises if there is no folder
        return {
            split: list_files(self.folder(split), names, self._listing(split).get("listed")) for split in self._folders
        }

    def _listing(self, split: Split) -> dict[str, Any]:
        """Return the arguments of ``decode_folder`` that list the files, if the folders do not."""
        return {}

    @property
    def _is_unsplit(self) -> bool:
        return self._folders.get("train") == self.root

    @property
    def image_size(self) -> tuple[int, int]:
        """The images' common size, or the size that they are resized to."""
        return self._train.image_size

    @property
    def decode_size(self) -> tuple[int, int]:
        """Height and width of the training images before augmentation."""
        return self._decode_size or self.image_size

    def load_larger(self) -> Tensor:
        """Return the pixels of the training images in ``decode_size``."""
        return self._decode("train", self.decode_size).images.pixels

    @property
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Computed from all images in ``train`` when they are decoded."""
        return self._train.mean, self._train.std

    @property
    def has_test_images(self) -> bool:
        """Whether there is a folder ``root/test``, or test images are held out."""
        return "test" in self._folders or (self._is_unsplit and self._test_fraction > 0)

    def load(self, split: Split) -> ImageTensors | None:
        """Return the images of ``root/train``, ``root/val`` or ``root/test``; None if there is no such folder.

        Without a folder ``train``, those of ``train`` include those of ``test``; see ``training_rows``.
        """
        if split == "train":
            return self._train.images
        if split == "test" and self._is_unsplit:
            images, (_, rows) = self._train.images, self._test_split
            files = [images.files[row] for row in rows.tolist()]
            return ImageTensors(images.pixels[rows], images.labels[rows], files) if len(rows) else None
        return self._decode(split, self.image_size).images if split in self._folders else None

    def training_rows(self, train: ImageTensors) -> Tensor:
        """Return all rows but those held out for ``test``."""
        return self._test_split[0]

    def groups(self, train: ImageTensors, rows: Tensor) -> list[str] | None:
        """Return what ``group_pattern`` matches in the path of each of these images."""
        if self._group_pattern is None:
            return None
        files = [train.files[row] for row in rows.tolist()]
        matches = [self._group_pattern.search(file) for file in files]
        if None in matches:
            raise InputError(
                f"data.group_pattern {self._group_pattern.pattern!r} matches nothing in {matches.count(None)} of"
                f" {len(matches)} paths, such as {files[matches.index(None)]}"
            )
        return [match.group(min(1, match.re.groups)) for match in matches if match]

    @cached_property
    def _test_split(self) -> tuple[Tensor, Tensor]:
        """The rows of the images that are not held out for ``test``, and of those that are."""
        images = self._train.images
        rows = torch.arange(len(images))
        if not self._is_unsplit or not self._test_fraction:
            return rows, rows[:0]
        split = hold_out(
            images.labels, self._test_fraction, self._split_seed, self.class_names, "test", self.groups(images, rows)
        )
        rank_zero_only(print)(
            f"{self.root} is not split: {len(split[1]):,} of its {len(images):,} images, the same in every run,"
            " are test images"
        )
        return split

    @cached_property
    def _train(self) -> FolderImages:
        decoded = self._decode("train", self._size)
        counts = torch.bincount(decoded.images.labels, minlength=self.num_classes)
        for name, count in zip(self.class_names, counts.tolist(), strict=True):
            if count == 0:
                raise InputError(
                    f"{self._folders['train']} contains no images of class {name!r}; add some, or remove the class"
                )
        return decoded

    def _decode(self, split: Split, size: tuple[int, int] | None) -> FolderImages:
        if split in self.undecoded:
            return FolderImages(self.undecoded[split], (0, 0), [], [])
        names = self.class_names  # raises if there is no folder
        options: dict[str, Any] = {"size": size, "fit": self.fit, "interpolation": self.interpolation}
        options |= {"skip_unreadable": self._skip_unreadable, **self._listing(split)}
        return decode_folder(self.folder(split), names, self._cache_dir, **options)


def _to_size(option: str, size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width."""
    if isinstance(size, int):
        size = (size, size)
    if size is not None and min(size) < 1:
        raise InputError(f"data.{option} must be at least 1, got {'x'.join(map(str, size))}")
    return size


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_system_folder(path.name))


def user_cache_dir() -> Path:
    """Return the default folder for decoded images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar_lit"
