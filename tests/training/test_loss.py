"""The training loss and the metrics of imbalanced classes, checked against PyTorch and scikit-learn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score
from sklearn.utils.class_weight import compute_class_weight
from torchvision.ops import sigmoid_focal_loss

from cifar_lit.errors import InputError
from cifar_lit.training.loss import ClassWeights, TrainingLoss
from cifar_lit.training.metrics import loss_and_accuracy
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome

LABELS = torch.tensor([0] * 6 + [1] * 3 + [2])


def logits() -> torch.Tensor:
    return torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(0))


def test_balanced_weights_equal_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    loss = TrainingLoss(3, 0.1, "balanced")
    loss.set_labels(LABELS)
    reference = F.cross_entropy(logits(), LABELS, torch.tensor(expected).float(), label_smoothing=0.1)
    torch.testing.assert_close(loss(logits(), LABELS), reference)
    torch.testing.assert_close(TrainingLoss(3, 0.1, expected.tolist())(logits(), LABELS), reference)
    assert loss(logits(), F.one_hot(LABELS).float()).isfinite()  # mixed images


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 2.0, 0.0], [1.0, 2.0, -1.0]])
def test_other_weights_are_refused(weights: ClassWeights) -> None:
    with pytest.raises(InputError, match=r"or one positive number for each of the 3 classes, got \[1.0, 2.0"):
        TrainingLoss(3, class_weights=weights)


def test_focal_loss_is_that_of_the_paper() -> None:
    weights = torch.tensor([0.5, 1.0, 3.0])
    probabilities = logits().softmax(1).gather(1, LABELS[:, None])[:, 0]
    losses = -weights[LABELS] * (1 - probabilities) ** 2 * probabilities.log()
    focal = TrainingLoss(3, class_weights=weights.tolist(), focal_gamma=2)
    torch.testing.assert_close(focal(logits(), LABELS), losses.sum() / weights[LABELS].sum())
    torch.testing.assert_close(focal(logits(), F.one_hot(LABELS).float()), losses.mean())
    gamma = 1e-9  # the limit is cross-entropy
    almost_none = TrainingLoss(3, label_smoothing=0.1, class_weights=weights.tolist(), focal_gamma=gamma)
    plain = TrainingLoss(3, label_smoothing=0.1, class_weights=weights.tolist())
    torch.testing.assert_close(almost_none(logits(), LABELS), plain(logits(), LABELS))
    # Two classes, where torchvision has it for sigmoids
    two, targets = logits()[:, :2], LABELS.clamp(max=1)
    reference = sigmoid_focal_loss(two[:, 1] - two[:, 0], targets.float(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(TrainingLoss(2, focal_gamma=2)(two, targets), reference)
    certain = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    TrainingLoss(3, focal_gamma=0.5)(certain, torch.tensor([0])).backward()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()
    with pytest.raises(InputError, match="focal_gamma must be at least 0, got -1"):
        TrainingLoss(3, focal_gamma=-1)


def test_averages_over_classes_equal_those_of_scikit_learn() -> None:
    metrics, predicted = loss_and_accuracy(3, averages=True), logits().argmax(1)
    metrics.update(loss=torch.tensor(1.0), count=len(LABELS), preds=logits(), target=LABELS)
    computed = metrics.compute()
    assert computed.pop("recall").tolist() == pytest.approx(recall_score(LABELS, predicted, average=None))
    found = {name: float(value) for name, value in computed.items()}
    assert found["macro_f1"] == pytest.approx(f1_score(LABELS, predicted, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(LABELS, predicted))
    assert found["accuracy"] == pytest.approx((predicted == LABELS).float().mean().item())


def test_the_best_checkpoint_and_early_stopping_can_monitor_them(program: Callable[..., Outcome]) -> None:
    root = write_class_folders(Path("images"), train=20)
    for number in range(5, 20):
        (root / "train" / "dog" / f"{number:03}.png").unlink()
    monitor = ["--best_checkpoint.monitor", "val/macro_f1", "--model.class_weights", "balanced"]
    early = '{"class_path": "EarlyStopping", "init_args": {"monitor": "val/balanced_accuracy", "mode": "max"}}'
    arguments: list[Any] = ["--config", ROOT / "configs" / "own_images.yaml", "--data.root", root, *TINY, *monitor]
    outcome = program("fit", *arguments, "--data.val_fraction", 0.4, "--trainer.callbacks+", early)
    assert outcome.status == 0, outcome.err
    assert re.search(r"macro_f1 │ +│ 0\.\d+ │", outcome.out)
    assert re.search(r"best\.ckpt \(the best val/macro_f1: 0\.\d+\)", outcome.out)
    rare = ["--data.sampler", "balanced", "--data.val_fraction", 0.4]
    outcome = program("fit", *arguments, "--best_checkpoint.monitor", "val/recall/dog", *rare)
    assert outcome.status == 0, outcome.err
    assert re.search(r"recall/dog │ +│ [01]\.\d+ │", outcome.out)
    outcome = program("fit", *arguments, "--model.class_weights", "[1, 2, 3]")
    assert outcome.status == 2
    assert "one positive number for each of the 2 classes" in outcome.err
