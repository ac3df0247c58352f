"""The loss that training minimizes."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_lit.errors import InputError

ClassWeights = list[float] | Literal["balanced"] | None


class TrainingLoss:
    """Cross-entropy with label smoothing and class weights, or the focal loss.

    Args:
        num_classes: The number of classes.
        label_smoothing: See Classifier.
        class_weights: See Classifier; ``balanced`` needs ``set_labels``.
        focal_gamma: Lin et al. 2017, arXiv:1708.02002, for several classes: the loss of each image is multiplied by
            (1 - p)^gamma, where p is the probability of its label.

    Raises:
        InputError: If ``label_smoothing`` is not in [0, 1), ``focal_gamma`` is negative, or there is not one positive
            weight for each class.
    """

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise InputError(f"model.label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        if focal_gamma < 0:
            raise InputError(f"model.focal_gamma must be at least 0, got {focal_gamma}")
        self.num_classes, self.label_smoothing, self.class_weights = num_classes, label_smoothing, class_weights
        self.focal_gamma = focal_gamma
        self._weights = None if class_weights is None else torch.ones(num_classes)
        if isinstance(class_weights, Sequence) and class_weights != "balanced":
            if len(class_weights) != num_classes or min(class_weights) <= 0:
                raise InputError(
                    f"model.class_weights must be balanced, or one positive number for each of the {num_classes}"
                    f" classes, got {class_weights}"
                )
            self._weights = torch.tensor(class_weights)

    def set_labels(self, labels: Tensor) -> None:
        """Compute balanced weights from the labels of the training images, int64 (N,).

        As in scikit-learn, they are N / (num_classes * number of images of the class).
        """
        if self.class_weights == "balanced":
            counts = torch.bincount(labels.cpu(), minlength=self.num_classes).clamp(min=1)
            self._weights = len(labels) / (self.num_classes * counts)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits (N, C) and labels, int64 (N,) or probabilities (N, C).

        With class weights and int64 labels, it is the weighted mean, as in torch.
        """
        if self._weights is not None:
            self._weights = self._weights.to(logits.device)  # copied in the first step only
            logits = logits.float()  # as the weights
        smoothing = self.label_smoothing
        if not self.focal_gamma:
            return F.cross_entropy(logits, labels, self._weights, label_smoothing=smoothing)
        losses = F.cross_entropy(logits, labels, self._weights, label_smoothing=smoothing, reduction="none")
        targets = labels if labels.ndim == 2 else F.one_hot(labels, self.num_classes)
        losses = losses * (1 - (logits.softmax(1) * targets).sum(1)).clamp(min=1e-6) ** self.focal_gamma
        return losses.sum() / (
            len(losses) if self._weights is None or labels.ndim == 2 else self._weights[labels].sum()
        )


def divergence(step: int) -> InputError:
    """Return the error of a run whose loss or weights are not finite."""
    return InputError(
        f"the loss or the weights became NaN or infinite by step {step}; training stops, and checkpoints saved before"
        " are intact. Try a lower learning rate (lr_find suggests one), trainer.gradient_clip_val: 1.0, or"
        " trainer.precision: 32-true"
    )
