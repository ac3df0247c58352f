"""What every data source shares: honest splits, augmentation, loaders whose batches do not depend on who makes them."""

import hashlib
import json
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from cifar_lit.data.albumentations import AlbumentationsPipeline
from cifar_lit.data.augment import Augmentation
from cifar_lit.data.batches import (
    Batch,
    BatchLoader,
    EpochSampler,
    ImageDataset,
    ImageTensors,
    Pipeline,
    identity_collate,
)
from cifar_lit.data.device_cache import cache_on_device, free_memory
from cifar_lit.data.mixup import Mixing
from cifar_lit.data.splits import hold_out, hold_out_fold
from cifar_lit.errors import InputError
from cifar_lit.randomness import SampleRandom, key, run_seed

Split = Literal["train", "val", "test"]


class ImageDataModule(LightningDataModule, ABC):
    """Labelled images in memory, given out as batches of uint8 pixels.

    ``test`` is read by ``test`` alone. ``val`` is the source's own if it has one; else a stratified hold-out of its
    training images, the same for every run with the same ``split_seed``.

    Args:
        batch_size: Images in a batch (of each process).
        val_fraction: Share of the training images that is held out as ``val``, where the source has none of its own;
            0 trains on all of them and does not validate.
        split_seed: Chooses which images are held out; the run's seed does not.
        folds: Cut the training images into so many equal parts, and hold out one, in place of ``val_fraction`` and of
            the source's own validation images; 0 does not.
        fold: Which of the parts is held out, from 0.
        augment: Augmentations of whole batches, on the device, in this order: the fast route.
        albumentations: Albumentations transforms of single images, in the loader's workers, in this order, each a
            name with its arguments, e.g. ``[{HorizontalFlip: {p: 0.5}}]``.
        route: ``batched`` leaves out ``albumentations``, ``per_sample`` leaves out ``augment``; ``both`` has
            ``albumentations`` first.
        mixup: Alpha of mixup (0.2 is usual for CIFAR); 0 switches it off. Zhang et al. 2017, arXiv:1710.09412.
        cutmix: Alpha of CutMix (1 is usual); 0 switches it off. With mixup as well, each batch gets one of the two.
            Yun et al. 2019, arXiv:1905.04899.
        num_workers: Processes that load batches; 0 is fastest unless ``albumentations`` is used.
        mean: Mean of each channel in [0, 1], in place of the source's own.
        std: Standard deviation of each channel in [0, 1], in place of the source's own.
    """

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
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["mean", "std", "image_size"])  # of subclasses too; these are the classifier's
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if not 0 <= val_fraction < 1:
            raise InputError(f"data.val_fraction must be at least 0 and below 1, got {val_fraction}")
        if num_workers < 0 or mixup < 0 or cutmix < 0:
            raise InputError(
                "data.num_workers, data.mixup and data.cutmix must be at least 0,"
                f" got {num_workers}, {mixup} and {cutmix}"
            )
        chosen, other = (augment, albumentations) if route == "batched" else (albumentations, augment)
        if route != "both" and other and not chosen:
            lacking, there = ("augment", "albumentations") if route == "batched" else ("albumentations", "augment")
            raise InputError(f"data.route is {route}, but data.{lacking} is empty, and data.{there} would be left out")
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augment = [] if augment is None or route == "per_sample" else augment
        self._albumentations = None if route == "batched" else albumentations
        self._mixup, self._cutmix = mixup, cutmix
        self._val_fraction, self._split_seed = val_fraction, split_seed
        if folds < 0 or folds == 1 or (folds and not 0 <= fold < folds):
            raise InputError(f"data.folds must be 0 or at least 2, and data.fold below it, got {folds} and {fold}")
        self.folds, self._fold = folds, fold
        self._mean, self._std = mean, std
        self._then: dict[str, Any] | None = None  # what the checkpoint that the run goes on from was made with
        self._shared = False  # whether each process holds a share of the training images, and shuffles that alone

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """The names of the classes; a label is a place in this list."""

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
        """The images of that split; None where the source has no such split."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every height and width in which a network is given images: their own, and those that training shrinks to."""
        shrunk = [augmentation.sizes_of(self.image_size) for augmentation in self.augment]
        return sorted({self.image_size, *(size for sizes in shrunk for size in sizes)})

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
    def _train_and_val(self) -> tuple[ImageDataset, ImageDataset | None]:
        train, val = self.load("train"), self.load("val")
        assert train is not None
        rows = torch.arange(len(train))
        if self.folds:
            kept, held_out = hold_out_fold(train.labels, self.folds, self._fold, self._split_seed, self.class_names)
            return self._training(train, kept), ImageDataset(train, held_out)
        if val is not None:
            return self._training(train, rows), ImageDataset(val, torch.arange(len(val)))
        if self._val_fraction == 0:
            return self._training(train, rows), None
        kept, held_out = hold_out(train.labels, self._val_fraction, self._split_seed, self.class_names)
        return self._training(train, kept), ImageDataset(train, held_out)

    def _training(self, images: ImageTensors, rows: Tensor) -> ImageDataset:
        pipeline: Pipeline | None = None
        if self._albumentations:
            pipeline = AlbumentationsPipeline(self._albumentations, self.mean, self.image_size)
        return ImageDataset(images, rows, pipeline, run_seed())

    @cached_property
    def _mixing(self) -> Mixing | None:
        return Mixing(self._mixup, self._cutmix, self.num_classes) if self._mixup or self._cutmix else None

    @property
    def train_set(self) -> ImageDataset:
        """The images that are trained on."""
        return self._train_and_val[0]

    @property
    def val_set(self) -> ImageDataset | None:
        """The images that decide which checkpoint is best; None if all are trained on."""
        return self._train_and_val[1]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, shuffled by (seed, epoch); from where a checkpoint goes on.

        Raises:
            InputError: if it was made with other batches, processes or another seed.
        """
        return self._loader(self.train_set, training=True, resumed=self._resumed())

    def _resumed(self) -> tuple[int, int]:
        """The epoch to go on in, and how many samples of this process were trained on in it.

        From the checkpoint, since Lightning asks for the loader before it has restored its own loops.
        """
        if self._then is None:
            return 0, 0
        now = self._step()
        other = [f"{name} {self._then[name]}" for name in now if self._then[name] != now[name]]
        if other:
            raise InputError(
                f"the checkpoint was made with {' and '.join(other)}: go on with the same, or the run would end with"
                " another network; `fit` without the checkpoint begins a new run"
            )
        return self._then["epoch"], self._then["batches"] * self.batch_size

    def _step(self) -> dict[str, int]:
        """What decides which samples a step takes, and how they are augmented."""
        trainer = self.trainer
        return {
            "data.batch_size": self.batch_size,
            "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches if trainer else 1,
            "processes": trainer.world_size if trainer else 1,
            "seed_everything": run_seed(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Where to go on (the epoch, and batches of it that are done), and what has to be as it is now."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        loop = self.trainer.fit_loop
        epochs: Any = loop.epoch_progress.current
        batches: Any = loop.epoch_loop.batch_progress
        epoch, done = epochs.processed, batches.current.processed
        if epochs.processed == epochs.ready:
            done = 0
        elif batches.is_last_batch:
            epoch, done = epoch + 1, 0
        images = {"images": len(self.train_set), "digest": self.training_digest}
        return {"epoch": epoch, "batches": done, "shared": self._shared, **self._step(), **images}

    @cached_property
    def training_digest(self) -> str:
        """A name of the training images, by their labels, their places in the source, and their files' names."""
        train = self.train_set
        found = hashlib.blake2b(digest_size=8)
        for part in (train.images.labels, train.rows):
            found.update(part.to("cpu").numpy().tobytes())
        found.update(json.dumps(list(train.files)).encode())
        return found.hexdigest()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over where to go on; tells if the images are others than they were."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if state_dict["batches"] and self.trainer.strategy.restore_checkpoint_after_setup:
            strategy = type(self.trainer.strategy).__name__
            raise InputError(f"{strategy} cannot go on in the middle of an epoch; take a checkpoint of an epoch's end")
        self._then = state_dict
        now = self.state_dict()
        if any(state_dict[name] != now[name] for name in ("images", "digest")):
            rank_zero_warn(
                f"the training images are not those of the checkpoint ({state_dict['images']} then,"
                f" {now['images']} now): the run goes on with those of now"
            )

    def teardown(self, stage: str) -> None:
        """Forgets the checkpoint; a later run begins anew."""
        self._then = None

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Validation batches in the source's order; an empty list if all images are trained on."""
        return [] if self.val_set is None else self._loader(self.val_set, training=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches in the source's order."""
        test = self.load("test")
        if test is None:
            raise InputError(
                f"{type(self).__name__} has no test images (of class folders: <root>/test/<class>/*);"
                " add them, or use `validate`"
            )
        return self._loader(ImageDataset(test, torch.arange(len(test))), training=False)

    def _loader(self, dataset: ImageDataset, *, training: bool, resumed: tuple[int, int] = (0, 0)) -> DataLoader[Batch]:
        trainer = self.trainer
        processes, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        seed = run_seed()
        resides = on_cuda = False
        if trainer:
            if len(dataset) < processes:
                raise InputError(
                    f"{processes} processes cannot share {len(dataset)} images: choose fewer --trainer.devices"
                )
            # validation counts each image once, so its images are not shared out, which may repeat some
            device = trainer.strategy.root_device
            on_cuda = device.type == "cuda"
            free = torch.tensor(float(free_memory(device)), device=device)
            least = int(trainer.strategy.reduce(free, reduce_op="min"))  # over the processes, which have to agree
            if training:
                before = self._then.get("shared") if self._then else None  # not told by the first releases' checkpoints
                dataset, self._shared = cache_on_device(dataset, device, least, rank, processes, before)
            else:
                dataset, _ = cache_on_device(dataset, device, least, 0, 1)
            resides = dataset.images.pixels.device.type != "cpu"
            if training and self._shared:  # each process shuffles what it has
                seed, processes, rank = key("share", seed, rank), 1, 0
        workers = 0 if resides else self.num_workers
        order = {"processes": processes, "rank": rank, "seed": seed}
        return BatchLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(dataset, shuffle=training, pad=training, resumed=resumed, **order),
            collate_fn=identity_collate,
            num_workers=workers,
            pin_memory=on_cuda and not resides,
            persistent_workers=workers > 0,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch on the device; Lightning's own search through any kind of batch takes longer than a small step."""
        if not isinstance(batch, Batch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return Batch(*(tensor.to(device, non_blocking=device.type == "cuda") for tensor in batch))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments and mixes a training batch on its device; leaves any other as it is."""
        if self.trainer is None or not self.trainer.training or not isinstance(batch, Batch):
            return batch  # the last: Lightning sends the model summary's example through here too
        epoch, seed = self.trainer.current_epoch, run_seed()
        if self.augment:
            random = SampleRandom(seed, epoch, batch.indices)
            pixels = batch.pixels
            for augmentation in self.augment:
                pixels = augmentation(pixels, random, self.mean)
                if pixels.dtype != torch.uint8:
                    raise InputError(
                        f"{type(augmentation).__name__} returned {pixels.dtype}, not torch.uint8 (0 to 255), which the"
                        " next augmentation and the network take"
                    )
            batch = batch._replace(pixels=pixels)
        if self._mixing is not None:
            place = self.trainer.fit_loop.batch_idx
            batch = self._mixing(batch, key("mixing", seed, epoch, place, self.trainer.global_rank))
        return batch
