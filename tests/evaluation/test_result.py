"""Evaluation results, compared with scikit-learn and torchmetrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from torchmetrics.classification import MulticlassCalibrationError

from cifar_lit.data.batches import ImageTensors
from cifar_lit.errors import InputError
from cifar_lit.evaluation.class_scores import class_scores
from cifar_lit.evaluation.result import EvaluationResult, select_images_to_keep
from cifar_lit.inference.bundle import Recipe, TrainedClassifier
from space.export.evaluate import EvaluationSplit, compute_logits, evaluate_images

NAMES = ["cat", "dog", "owl"]
GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (300, 3, 12, 12), dtype=torch.uint8, generator=GENERATOR)


def classifier() -> TrainedClassifier:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 3}}
    recipe = Recipe(net, NAMES, (12, 12), [0.5] * 3, [0.01] * 3)
    torch.manual_seed(0)
    return TrainedClassifier.from_weights(recipe, recipe.build().state_dict())


# Equal to the predictions, except for a third of the images
LABELS = classifier().logits(PIXELS).argmax(1)
LABELS[::3] = torch.randint(0, 3, (100,), generator=GENERATOR)


def evaluated() -> tuple[TrainedClassifier, EvaluationResult]:
    split = EvaluationSplit("test", ImageTensors(PIXELS, LABELS), torch.arange(100, 300))
    trained = classifier()
    logits = compute_logits(trained, split)
    return trained, evaluate_images(split, logits, trained.recipe.temperature, max_mistakes=20)


def test_scores_match_scikit_learn_and_torchmetrics() -> None:
    trained, result = evaluated()
    logits, labels = trained.logits(PIXELS[100:]), LABELS[100:]
    assert np.array_equal(result.counts, confusion_matrix(labels, logits.argmax(1), labels=range(3)))
    assert result.loss == pytest.approx(log_loss(labels, logits.double().softmax(1)), abs=1e-5)
    assert result.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    precision, recall, f1, support = precision_recall_fscore_support(labels, logits.argmax(1), zero_division=0)
    assert np.allclose(class_scores(result.counts), np.stack([support, precision, recall, f1], 1))
    for error, temperature in zip(result.calibration_errors(), (1.0, trained.recipe.temperature), strict=True):
        metric = MulticlassCalibrationError(3, n_bins=15)
        assert error == pytest.approx(float(metric((logits / temperature).softmax(1), labels)), abs=1e-5)


def test_kept_images_are_mistakes_of_each_cell_then_the_most_confident_and_correct_images_of_each_class() -> None:
    trained, result = evaluated()
    logits, labels = trained.logits(PIXELS[100:]) / trained.recipe.temperature, LABELS[100:]
    confidence, predicted = logits.softmax(1).max(1)
    wrong = (predicted != labels).nonzero()[:, 0]
    kept_wrong = result.indices[result.predictions != result.labels] - 100
    assert len(kept_wrong) == min(20, len(wrong))
    first = []
    for row in range(3):
        for column in range(3):
            cell = ((labels == row) & (predicted == column)).nonzero()[:, 0]
            order = confidence[cell].argsort(descending=row != column)[:8]
            chosen = set((cell[order] + 100).tolist())
            if row == column:
                assert chosen <= set(result.indices.tolist())
            else:
                first.append(chosen)
    if sum(map(len, first)) <= 20:
        assert set().union(*first) <= set(result.indices.tolist())
    assert torch.equal(result.pixels, PIXELS[result.indices])
    assert torch.equal(result.labels, LABELS[result.indices])
    assert torch.allclose(result.logits, trained.logits(result.pixels), atol=1e-5)
    assert torch.allclose(result.confidences(trained.recipe.temperature), confidence[result.indices - 100], atol=1e-5)


def test_max_mistakes_limits_the_mistakes_for_any_number_of_classes() -> None:
    logits = torch.randn(5000, 50, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5000) % 50
    kept = select_images_to_keep(logits, labels, 30)
    wrong = logits[kept].argmax(1) != labels[kept]
    assert int(wrong.sum()) == 30
    assert int((~wrong).sum()) <= 8 * 50
    assert len(kept.unique()) == len(kept)
    by_confidence = select_images_to_keep(logits, labels, 30, per_cell=0)
    confidence, predicted = logits.softmax(1).max(1)
    worst = torch.where(predicted != labels, confidence, -1).argsort(descending=True)[:30]
    assert by_confidence.tolist() == worst.sort().values.tolist()
    assert select_images_to_keep(logits, labels, 0, per_cell=0).tolist() == []


def test_save_and_load_round_trip() -> None:
    _, result = evaluated()
    result.save(Path("evaluation.safetensors"))
    loaded = EvaluationResult.load(Path("evaluation.safetensors"))
    assert (loaded.split, loaded.loss) == (result.split, result.loss)
    for name in ("counts", "calibration", "pixels", "labels", "logits", "indices"):
        assert torch.equal(getattr(loaded, name), getattr(result, name))
    Path("evaluation.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="is not a valid evaluation result"):
        EvaluationResult.load(Path("evaluation.safetensors"))
