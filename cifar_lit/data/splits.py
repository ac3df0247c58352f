"""Stratified, seeded hold-out splits; images of one group are never divided."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cifar_lit.data.batches import ImageDataset
from cifar_lit.errors import InputError


def hold_out_fold(
    labels: Tensor, folds: int, fold: int, seed: int, class_names: list[str], groups: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Hold out one of several (at least 2) equal folds, stratified by label; otherwise like ``hold_out``.

    Raises:
        InputError: If a class has fewer images, or images of fewer groups, than there are folds.

    >>> kept, held_out = hold_out_fold(torch.tensor([0, 1] * 10), 5, 0, 0, ["cat", "dog"])
    >>> len(kept), torch.tensor([0, 1] * 10)[held_out].sort().values.tolist()
    (16, [0, 0, 1, 1])
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # 1.5 s to import

    counts = torch.bincount(labels, minlength=len(class_names))
    rarest = int(counts.argmin())
    if counts[rarest] < folds:
        raise InputError(
            f"data.folds must be at most the {counts[rarest]} training images of class {class_names[rarest]!r},"
            f" got {folds}; use fewer folds or add images"
        )
    if groups is not None and len(set(groups)) < folds:
        raise InputError(f"data.folds must be at most the {len(set(groups))} groups of images, got {folds}")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    splits = splitter(folds, shuffle=True, random_state=seed).split(labels.numpy(), labels.numpy(), groups)
    kept, held_out = list(splits)[fold]
    return torch.from_numpy(kept), torch.from_numpy(held_out)


def hold_out(
    labels: Tensor,
    fraction: float,
    seed: int,
    class_names: list[str],
    split: str = "val",
    groups: Sequence[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Hold out a fraction of the rows, stratified by label.

    Args:
        labels: int64 (N,).
        fraction: Fraction to hold out, above 0 and below 1.
        seed: Determines which rows are held out.
        class_names: Names of the classes, for the error message.
        split: What they are held out for, ``val`` or ``test``, for the error message.
        groups: N names; all images of a group are held out, or none. The fraction is then approximate: one of 1 /
            fraction folds, rounded.

    Returns:
        Two sorted int64 arrays of rows, kept and held out.

    Raises:
        InputError: If a class has too few images, or images of too few groups, to be in both.

    >>> kept, held_out = hold_out(torch.tensor([0, 1] * 10), 0.2, 0, ["cat", "dog"])
    >>> len(kept), torch.tensor([0, 1] * 10)[held_out].sort().values.tolist()
    (16, [0, 0, 1, 1])
    """
    from sklearn.model_selection import train_test_split  # 1.5 s to import

    counts = torch.bincount(labels, minlength=len(class_names))
    rarest = int(counts.argmin())
    size = round(len(labels) * fraction)
    if counts[rarest] >= 2 and len(class_names) <= size <= len(labels) - len(class_names):
        if groups is None:
            rows = train_test_split(range(len(labels)), test_size=size, stratify=labels.numpy(), random_state=seed)
            kept, held_out = (torch.tensor(part).sort().values for part in rows)
        else:
            folds = min(max(2, round(1 / fraction)), len(set(groups)))
            kept, held_out = hold_out_fold(labels, folds, 0, seed, class_names, groups)
        if all(len(labels[part].unique()) == len(class_names) for part in (kept, held_out)):
            return kept, held_out
    in_groups = "" if groups is None else f" in {len(set(groups))} groups"
    raise InputError(
        f"{fraction:.0%} of {len(labels)} images{in_groups} cannot be held out for {split} with every class in both"
        f" splits: class {class_names[rarest]!r} has {counts[rarest]} images, and there are {len(class_names)} classes;"
        f" add images or a {split}/ folder, or change data.{split}_fraction (0 for none)"
    )


def without_class(name: str, dataset: ImageDataset, class_names: list[str]) -> ImageDataset:
    """Return a dataset without the images of a class; raise InputError if there is no such class, or no other image."""
    if name not in class_names:
        raise InputError(f"data.omit_class: no class {name!r}; the classes are {', '.join(class_names)}")
    kept = dataset.images.labels[dataset.rows] != class_names.index(name)
    if not bool(kept.any()):
        raise InputError(f"data.omit_class: all images of a split are of class {name!r}")
    return ImageDataset(dataset.images, dataset.rows[kept])
