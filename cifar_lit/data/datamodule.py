"""Base class of all data sources: splits, augmentation and reproducible loaders."""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.data.augment import Augmentation, apply_augmentations
from cifar_lit.data.batches import Batch, ImageDataset, ImageTensors
from cifar_lit.data.decisions import apply_decisions
from cifar_lit.data.loader import build_loader
from cifar_lit.data.mixup import mix
from cifar_lit.data.resume_checks import check_unchanged, training_position, warn_of_other_images
from cifar_lit.data.splits import hold_out, hold_out_fold, without_class
from cifar_lit.errors import InputError
from cifar_lit.inference.images import Fit, Interpolation
from cifar_lit.randomness import SampleRandom, key, run_seed

Split = Literal["train", "val", "test"]


class ImageDataModule(LightningDataModule, ABC):
    """Labeled images in memory, served as batches of uint8 pixels.

    ``test`` is read only by the ``test`` command. ``val`` is the source's own if it has one; otherwise a stratified
    hold-out of its training images, the same for all runs with the same ``split_seed``.

    Args:
        batch_size: Images per batch (in each process). A single image left for an epoch's last batch is left out.
        val_fraction: Fraction of the training images held out as ``val`` if the source has none of its own;
            0 trains on all of them and skips validation.
        split_seed: Determines which images are held out, independently of the run's seed.
        folds: Divide the training images into this many equal folds and hold out one of them, instead of using
            ``val_fraction`` or the source's own validation images; 0 disables it.
        fold: The fold to hold out, from 0.
        augment: Batch augmentations, run on the device in this order; the faster option.
        albumentations: Albumentations transforms, run per image in the loader's workers in this order, each a name
            with its arguments, e.g. ``[{HorizontalFlip: {p: 0.5}}]``.
        route: ``batched`` ignores ``albumentations``, ``per_sample`` ignores ``augment``; ``both`` applies
            ``albumentations`` first.
        mixup: Alpha of mixup (0.2 is usual for CIFAR); 0 disables it. Zhang et al. 2017, arXiv:1710.09412.
        cutmix: Alpha of CutMix (1 is usual); 0 disables it. If mixup is enabled too, each batch gets one of the two.
            Yun et al. 2019, arXiv:1905.04899.
        num_workers: Processes that load batches; 0 is fastest unless ``albumentations`` is used.
        sampler: ``balanced`` draws as many samples of each class in each epoch, those of rare classes repeatedly;
            ``shuffled`` draws each image once.
        min_batches: Repeat the training images until an epoch has at least this many batches, if there are few.
        decisions: CSV file with images to relabel or drop, from a review of the training images.
        votes: File with people's votes on the images; see ``report --votes``.
        omit_class: A class to leave out, to test how well its images are detected as unknown.
        mean, std: Mean and standard deviation of each channel in [0, 1], instead of the source's own.
    """

    # How images of other sizes are resized; see ``cifar_lit.inference.images.Resizing``
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"

    def __init__(
        self,
        batch_size: int = 512,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        folds: int = 0,
        fold: int = 0,
        augment: list[Augmentation] | None = None,
        albumentations: list[dict[str, Any]] | None = None,
        route: Literal["batched", "per_sample", "both"] = "both",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        num_workers: int = 0,
        sampler: Literal["shuffled", "balanced"] = "shuffled",
        min_batches: int = 0,
        decisions: str | None = None,
        votes: str | None = None,
        omit_class: str | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        # Including those of subclasses; the ignored ones are saved by the classifier
        self.save_hyperparameters(ignore=["mean", "std", "image_size", "interpolation"])
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if not 0 <= val_fraction < 1:
            raise InputError(f"data.val_fraction must be at least 0 and below 1, got {val_fraction}")
        for name in ("num_workers", "mixup", "cutmix", "min_batches"):
            if (value := self.hparams[name]) < 0:
                raise InputError(f"data.{name} must be at least 0, got {value}")
        if std is not None and min(std) <= 0:
            raise InputError(f"data.std must be greater than 0, got {std}")
        if folds < 0 or folds == 1 or (folds and not 0 <= fold < folds):
            raise InputError(f"data.folds must be 0 or at least 2, and data.fold below it, got {folds} and {fold}")
        ignored, used = (albumentations, augment) if route == "batched" else (augment, albumentations)
        if route != "both" and ignored and not used:
            raise InputError(f"data.route {route} would ignore all configured augmentations; use route both")
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augment = [] if augment is None or route == "per_sample" else augment
        self._albumentations = None if route == "batched" else albumentations
        self._mixup_alphas, self._min_batches = (mixup, cutmix), min_batches
        self._val_fraction, self._split_seed = val_fraction, split_seed
        self.folds, self._fold, self._mean, self._std, self._omit_class = folds, fold, mean, std, omit_class
        self._balanced, self._decisions = sampler == "balanced", Path(decisions) if decisions else None
        self._resume_state: dict[str, Any] = {}  # of the checkpoint that the run resumes from

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """The names of the classes; labels are indices into this list."""

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width of all images."""

    @property
    @abstractmethod
    def own_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels of the training images, in [0, 1]."""

    @abstractmethod
    def load(self, split: Split) -> ImageTensors | None:
        """Return the images of the split; None if the source has no such split."""

    def training_rows(self, train: ImageTensors) -> torch.Tensor:
        """Return the rows of ``load("train")`` that are not test images; by default all."""
        return torch.arange(len(train))

    def groups(self, train: ImageTensors, rows: torch.Tensor) -> list[str] | None:
        """Return the group of these images of ``load("train")``; None if each is a group of its own."""
        return None

    @property
    def has_test_images(self) -> bool:
        """Whether ``load("test")`` returns images; unlike that, reads none."""
        return True

    @property
    def decode_size(self) -> tuple[int, int]:
        """Height and width of the training images before augmentation."""
        return self.image_size

    def load_larger(self) -> torch.Tensor:
        """Return the pixels of ``load("train")`` in ``decode_size``; called only if that is not ``image_size``."""
        raise NotImplementedError

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every (height, width) that a network is trained and evaluated on.

        Raises:
            InputError: If larger images are not cropped to ``image_size``.
        """
        pipeline = self.train_set.pipeline
        sizes = {pipeline.output_size if isinstance(pipeline, AlbumentationsPipeline) else self.decode_size}
        for augmentation in self.augment:
            sizes = {output for size in sizes for output in augmentation.output_sizes(size)}
        if self.decode_size != self.image_size and self.image_size not in sizes:
            crop = f"RandomResizedCrop with size: {list(self.image_size)}"
            raise InputError(f"data.decode_size needs an augmentation that returns data.image_size, such as {crop}")
        return sorted({self.image_size, *sizes})

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def mean(self) -> list[float]:
        """Mean of each channel, in [0, 1]: as given, or the source's own."""
        return self._mean or self.own_statistics[0]

    @property
    def std(self) -> list[float]:
        """Standard deviation of each channel, in [0, 1]: as given, or the source's own."""
        return self._std or self.own_statistics[1]

    @cached_property
    def train_and_val(self) -> tuple[ImageDataset, ImageDataset | None]:
        """The images of both splits, without augmentation."""
        train, val = self.load("train"), self.load("val")
        assert train is not None
        rows, val_set = self.training_rows(train), None
        labels, seed, names, groups = train.labels[rows], self._split_seed, self.class_names, self.groups(train, rows)
        if self.folds:
            kept, held_out = hold_out_fold(labels, self.folds, self._fold, seed, names, groups)
            rows, val_set = rows[kept], ImageDataset(train, rows[held_out])
        elif val is not None:
            val_set = ImageDataset(val, torch.arange(len(val)))
        elif self._val_fraction:
            kept, held_out = hold_out(labels, self._val_fraction, seed, names, "val", groups)
            rows, val_set = rows[kept], ImageDataset(train, rows[held_out])
        if self._decisions is not None:
            train, rows = apply_decisions(self._decisions, train, rows, names)
        train_set = ImageDataset(train, rows)
        if self._omit_class is not None:
            train_set = without_class(self._omit_class, train_set, names)
            val_set = val_set and without_class(self._omit_class, val_set, names)
        return train_set, val_set

    @cached_property
    def train_set(self) -> ImageDataset:
        """The images to train on."""
        train, transforms = self.train_and_val[0], self._albumentations
        pipeline = AlbumentationsPipeline(transforms, self.mean, self.decode_size) if transforms else None
        return ImageDataset(train.images, train.rows, pipeline, run_seed())

    @property
    def val_set(self) -> ImageDataset | None:
        """The images that determine the best checkpoint; None if all images are used for training."""
        return self.train_and_val[1]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return training batches, shuffled by (seed, epoch), from where the checkpoint left off.

        Raises:
            InputError: If the checkpoint was made with another batch size, number of processes or seed.
        """
        state, dataset = self._resume_state, self.train_set
        if self.decode_size != self.image_size:
            images = replace(dataset.images, pixels=self.load_larger())
            dataset = ImageDataset(images, dataset.rows, dataset.pipeline, dataset.seed)
        start = 0, 0
        if state:
            check_unchanged(state, self._settings_to_keep())
            # Taken from the checkpoint, since Lightning requests the loader before it restores its own loops
            start = state["epoch"], state["batches"] * self.batch_size
        order = {"balanced": self._balanced, "min_batches": self._min_batches, "start": start}
        return self._loader(dataset, training=True, loaders=1 if self.val_set is None else 2, **order)

    def _settings_to_keep(self) -> dict[str, Any]:
        """Return the settings that determine the samples of a step and their augmentation."""
        return {
            "data.batch_size": self.batch_size,
            "trainer.accumulate_grad_batches": self.trainer.accumulate_grad_batches if self.trainer else 1,
            "processes": self.trainer.world_size if self.trainer else 1,
            "seed_everything": run_seed(),
            "data.sampler": "balanced" if self._balanced else "shuffled",
            "data.min_batches": self._min_batches,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return where to resume (epoch and batches done in it), and the settings and images that must not change."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        epoch, done = training_position(self.trainer)
        images = {"images": len(self.train_set), "digest": self.train_set.digest}
        return {"epoch": epoch, "batches": done, **self._settings_to_keep(), **images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set where to resume; warn if the training images have changed."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if state_dict["batches"] and self.trainer.strategy.restore_checkpoint_after_setup:
            strategy = type(self.trainer.strategy).__name__
            raise InputError(f"{strategy} cannot resume within an epoch; use a checkpoint from the end of an epoch")
        self._resume_state = state_dict
        warn_of_other_images(state_dict, self.state_dict())

    def teardown(self, stage: str) -> None:
        """Discard the checkpoint's state, so that the next run starts from the beginning."""
        self._resume_state = {}

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return validation batches in the source's order; an empty list if all images are used for training."""
        return [] if self.val_set is None else self._loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return test batches in the source's order."""
        test = self.load("test")
        if test is None:
            raise InputError(f"{type(self).__name__} has no test images; add <root>/test/<class>/*, or use `validate`")
        return self._loader(ImageDataset(test, torch.arange(len(test))))

    def _loader(self, dataset: ImageDataset, **options: Any) -> DataLoader[Batch]:
        return build_loader(dataset, self.trainer, self.batch_size, self.num_workers, **options)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Apply augmentation and mixup to training batches; return any other unchanged."""
        if (trainer := self.trainer) is None or not trainer.training or not isinstance(batch, Batch):
            return batch  # Lightning also passes the model summary's example, which is not a Batch
        position = trainer.current_epoch, trainer.fit_loop.batch_idx, trainer.global_rank, trainer.world_size
        return self.augmented(batch, *position)

    def augmented(self, batch: Batch, epoch: int = 0, batch_idx: int = 0, rank: int = 0, processes: int = 1) -> Batch:
        """Return a training batch after augmentation and mixup."""
        seed, places = run_seed(), None
        if self._balanced or self._min_batches:
            places = torch.arange(len(batch.indices), device=batch.indices.device)
            places += (batch_idx * processes + rank) * self.batch_size
        random = SampleRandom(seed, epoch, batch.indices, places)
        batch = batch._replace(pixels=apply_augmentations(self.augment, batch.pixels, random, self.mean))
        if any(self._mixup_alphas):
            batch = mix(batch, self._mixup_alphas, self.num_classes, key("mixing", seed, epoch, batch_idx, rank))
        return batch
