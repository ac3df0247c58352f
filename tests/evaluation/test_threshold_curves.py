"""ROC and precision-recall curves, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from torch import Tensor

from cifar_lit.evaluation.threshold_curves import ClassCurves, ThresholdCurves, exact_curves


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (600,), generator=generator)
    logits = 3 * torch.randn(600, 5, generator=generator)  # nothing belongs to the last class
    logits[torch.arange(600), labels] += 4
    return logits.softmax(1), labels


def binned_curves(probabilities: Tensor, labels: Tensor) -> list[ClassCurves]:
    metric = ThresholdCurves(probabilities.shape[1])
    for batch in zip(probabilities.split(250), labels.split(250), strict=True):
        metric.update(*batch)
    found: list[ClassCurves] = metric.compute()
    return found


def test_the_curves_equal_those_of_scikit_learn() -> None:
    probabilities, labels = sample()
    found = exact_curves(probabilities, labels)
    for label, curves in enumerate(found[:4]):
        is_label, scores = (labels == label).numpy(), probabilities[:, label].numpy()
        assert curves.roc_auc == pytest.approx(roc_auc_score(is_label, scores))
        assert curves.average_precision == pytest.approx(average_precision_score(is_label, scores))
        fpr, tpr, _ = roc_curve(is_label, scores)
        ours = torch.stack([curves.false_positive_rate, curves.recall], 1)
        theirs = torch.from_numpy(np.stack([fpr[1:], tpr[1:]], 1))  # without (0, 0)
        assert torch.cdist(theirs, ours).amin(1).max() < 1e-6
        precision, recall, thresholds = precision_recall_curve(is_label, scores)
        f1 = 2 * precision * recall / (precision + recall + 1e-12)
        best = f1[:-1].argmax()
        chosen = (curves.threshold, curves.best_precision, curves.best_recall)
        assert chosen == pytest.approx((thresholds[best], precision[best], recall[best]))


def test_counts_between_thresholds_are_close() -> None:
    probabilities, labels = sample()
    exact = exact_curves(probabilities, labels)
    for close, curves in zip(binned_curves(probabilities, labels)[:4], exact[:4], strict=True):
        assert close.roc_auc == pytest.approx(curves.roc_auc, abs=1e-4)
        assert close.average_precision == pytest.approx(curves.average_precision, abs=1e-3)


def test_areas_without_images_are_undefined() -> None:
    probabilities, labels = sample()
    for curves_of in (exact_curves, binned_curves):
        nothing = curves_of(probabilities, labels)[4]
        assert math.isnan(nothing.roc_auc)
        assert math.isnan(nothing.average_precision)
        only = curves_of(probabilities[labels == 1], labels[labels == 1])[1]
        assert math.isnan(only.roc_auc)
        assert only.average_precision == 1
