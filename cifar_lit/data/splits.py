"""Holding images out of training, honestly: every class in proportion, chosen by a seed."""

import torch
from torch import Tensor

from cifar_lit.errors import InputError


def hold_out_fold(labels: Tensor, folds: int, fold: int, seed: int, class_names: list[str]) -> tuple[Tensor, Tensor]:
    """Divides rows into those kept and one of several equal parts that is held out, stratified by label.

    Args:
        labels: int64 (N,).
        folds: How many parts, at least 2.
        fold: Which part to hold out, from 0.
        seed: Chooses which rows are in which part.
        class_names: The classes, for the error message.

    Returns:
        Two sorted int64 arrays of rows, kept and held out.

    Raises:
        InputError: if a class has fewer images than there are parts.

    >>> kept, held_out = hold_out_fold(torch.tensor([0, 1] * 10), 5, 0, 0, ["cat", "dog"])
    >>> len(kept), torch.tensor([0, 1] * 10)[held_out].sort().values.tolist()
    (16, [0, 0, 1, 1])
    """
    from sklearn.model_selection import StratifiedKFold  # 1.5 s to import

    counts = torch.bincount(labels, minlength=len(class_names))
    fewest = int(counts.argmin())
    if counts[fewest] < folds:
        raise InputError(
            f"class {class_names[fewest]!r} has {counts[fewest]} training images, fewer than {folds} folds; take fewer"
        )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels.numpy(), labels.numpy())
    kept, held_out = list(parts)[fold]
    return torch.from_numpy(kept), torch.from_numpy(held_out)


def hold_out(labels: Tensor, fraction: float, seed: int, class_names: list[str]) -> tuple[Tensor, Tensor]:
    """Divides rows into those kept and those held out, stratified by label.

    Args:
        labels: int64 (N,).
        fraction: The share to hold out, above 0 and below 1.
        seed: Chooses which.
        class_names: The classes, for the error message.

    Returns:
        Two sorted int64 arrays of rows, kept and held out.

    Raises:
        InputError: if a class has too few images to be in both.

    >>> kept, held_out = hold_out(torch.tensor([0, 1] * 10), 0.2, 0, ["cat", "dog"])
    >>> len(kept), torch.tensor([0, 1] * 10)[held_out].sort().values.tolist()
    (16, [0, 0, 1, 1])
    """
    from sklearn.model_selection import train_test_split  # 1.5 s to import

    counts = torch.bincount(labels, minlength=len(class_names))
    fewest = int(counts.argmin())
    size = round(len(labels) * fraction)
    if counts[fewest] >= 2 and len(class_names) <= size <= len(labels) - len(class_names):
        kept, held_out = (
            torch.from_numpy(rows).sort().values
            for rows in train_test_split(
                torch.arange(len(labels)).numpy(), test_size=size, stratify=labels.numpy(), random_state=seed
            )
        )
        if all(len(labels[rows].unique()) == len(class_names) for rows in (kept, held_out)):
            return kept, held_out
    raise InputError(
        f"{fraction:.0%} of {len(labels)} training images cannot be held out for validation with every class on both"
        f" sides: class {class_names[fewest]!r} has {counts[fewest]}, and there are {len(class_names)} classes;"
        " add images or a val/ folder, change data.val_fraction, or set it to 0 to train without validation"
    )
