"""The training loss and the metrics of imbalanced classes, checked against PyTorch and scikit-learn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight

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


def test_averages_over_classes_equal_those_of_scikit_learn() -> None:
    metrics, predicted = loss_and_accuracy(3, averages=True), logits().argmax(1)
    metrics.update(loss=torch.tensor(1.0), count=len(LABELS), preds=logits(), target=LABELS)
    found = {name: float(value) for name, value in metrics.compute().items()}
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
    assert re.search(r"macro_f1 │ +│ 0\.\d+ │ +0\.\d+ │", outcome.out)
    outcome = program("fit", *arguments, "--model.class_weights", "[1, 2, 3]")
    assert outcome.status == 2
    assert "one positive number for each of the 2 classes" in outcome.err
