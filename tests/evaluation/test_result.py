"""What a bundle keeps of an evaluation, against independent computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from torchmetrics.classification import MulticlassCalibrationError

from cifar_lit.data.batches import ImageTensors
from cifar_lit.errors import InputError
from cifar_lit.evaluation.confusion import class_scores
from cifar_lit.evaluation.ood import OODThreshold, energy, fit_ood_threshold
from cifar_lit.evaluation.result import EvaluationResult, select_images_to_keep
from cifar_lit.inference.bundle import Recipe, TrainedClassifier
from space.app.network import flagged
from space.export.evaluate import Images, judged_by, logits_of
from space.export.ood_samples import ood_samples

NAMES = ["cat", "dog", "owl"]
GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (300, 3, 12, 12), dtype=torch.uint8, generator=GENERATOR)


def network() -> TrainedClassifier:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 3}}
    recipe = Recipe(net, NAMES, (12, 12), [0.5] * 3, [0.01] * 3)
    torch.manual_seed(0)
    return TrainedClassifier.of(recipe, recipe.build().state_dict())


# What the network says, but for a third of the images
LABELS = network().logits(PIXELS).argmax(1)
LABELS[::3] = torch.randint(0, 3, (100,), generator=GENERATOR)


def judged() -> tuple[TrainedClassifier, EvaluationResult]:
    images = ImageTensors(PIXELS, LABELS)
    sets = [Images("val", images, torch.arange(100)), Images("test", images, torch.arange(100, 300))]
    trained = network()
    return trained, judged_by(sets[1], logits_of(trained, sets[1]), trained.recipe.temperature, most=20)


def test_the_scores_equal_those_of_scikit_learn_and_torchmetrics() -> None:
    trained, found = judged()
    logits, labels = trained.logits(PIXELS[100:]), LABELS[100:]
    assert np.array_equal(found.counts, confusion_matrix(labels, logits.argmax(1), labels=range(3)))
    assert found.loss == pytest.approx(log_loss(labels, logits.double().softmax(1)), abs=1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    precision, recall, f1, support = precision_recall_fscore_support(labels, logits.argmax(1), zero_division=0)
    assert np.allclose(class_scores(found.counts), np.stack([support, precision, recall, f1], 1))
    for error, temperature in zip(found.calibration_errors(), (1.0, trained.recipe.temperature), strict=True):
        metric = MulticlassCalibrationError(3, n_bins=15)
        assert error == pytest.approx(float(metric((logits / temperature).softmax(1), labels)), abs=1e-5)


def test_it_keeps_mistakes_of_each_cell_then_the_most_confident_and_right_images_of_each_class() -> None:
    trained, found = judged()
    logits, labels = trained.logits(PIXELS[100:]) / trained.recipe.temperature, LABELS[100:]
    confidence, said = logits.softmax(1).max(1)
    wrong = (said != labels).nonzero()[:, 0]
    kept_wrong = found.indices[found.predictions != found.labels] - 100
    assert len(kept_wrong) == min(20, len(wrong))
    first = []
    for true in range(3):
        for predicted in range(3):
            cell = ((labels == true) & (said == predicted)).nonzero()[:, 0]
            order = confidence[cell].argsort(descending=true != predicted)[:8]
            chosen = set((cell[order] + 100).tolist())
            if true == predicted:
                assert chosen <= set(found.indices.tolist())
            else:
                first.append(chosen)
    if sum(map(len, first)) <= 20:
        assert set().union(*first) <= set(found.indices.tolist())
    assert torch.equal(found.pixels, PIXELS[found.indices])
    assert torch.equal(found.labels, LABELS[found.indices])
    assert torch.allclose(found.logits, trained.logits(found.pixels), atol=1e-5)
    assert torch.allclose(found.confidences(trained.recipe.temperature), confidence[found.indices - 100], atol=1e-5)


def test_no_more_mistakes_are_kept_than_asked_for_however_many_classes_there_are() -> None:
    logits = torch.randn(5000, 50, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5000) % 50
    kept = select_images_to_keep(logits, labels, 30)
    wrong = logits[kept].argmax(1) != labels[kept]
    assert int(wrong.sum()) == 30
    assert int((~wrong).sum()) <= 8 * 50
    assert len(kept.unique()) == len(kept)
    alone = select_images_to_keep(logits, labels, 30, of_each_cell=0)
    confidence, said = logits.softmax(1).max(1)
    worst = torch.where(said != labels, confidence, -1).argsort(descending=True)[:30]
    assert alone.tolist() == worst.sort().values.tolist()
    assert select_images_to_keep(logits, labels, 0, of_each_cell=0).tolist() == []


def test_an_evaluation_is_read_back_as_it_was_saved() -> None:
    _, found = judged()
    found.save(Path("evaluation.safetensors"))
    again = EvaluationResult.load(Path("evaluation.safetensors"))
    assert (again.split, again.loss) == (found.split, found.loss)
    for name in ("counts", "calibration", "pixels", "labels", "logits", "indices"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    Path("evaluation.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="holds no evaluation"):
        EvaluationResult.load(Path("evaluation.safetensors"))


def test_the_threshold_calls_a_twentieth_of_the_first_split_unknown() -> None:
    generator = torch.Generator().manual_seed(2)
    val, test = torch.randn(2000, 10, generator=generator) * 3, torch.randn(1000, 10, generator=generator) * 3
    flat = torch.zeros(50, 10)
    unknown = fit_ood_threshold({"val": val, "test": test}, {"flat": flat})
    values = logsumexp(val.numpy(), axis=1)
    assert np.allclose(energy(val), values, atol=1e-5)
    assert unknown.threshold == pytest.approx(np.quantile(values, 0.05), abs=1e-4)
    assert float(unknown.flags(val).float().mean()) == pytest.approx(0.05, abs=0.001)
    assert unknown.false_alarms == pytest.approx((logsumexp(test.numpy(), axis=1) < unknown.threshold).mean())
    assert unknown.found == {"flat": float(np.log(10) < unknown.threshold)}
    assert (unknown.fitted_on, unknown.judged_on) == ("val", "test")


def test_a_threshold_is_useful_that_finds_more_than_it_takes_for_unknown_by_mistake() -> None:
    rates = {"threshold": 1.0, "fitted_on": "val", "judged_on": "test", "false_alarms": 0.06}
    assert OODThreshold(**rates, found={"noise": 0.9, "letters": 0.0}).useful  # type: ignore[arg-type]
    weak = OODThreshold(**rates, found={"noise": 0.2, "letters": 0.01})  # type: ignore[arg-type]
    assert not weak.useful
    assert flagged(weak, np.zeros((2, 3), np.float32)) == [False, False]
    assert flagged(weak, np.zeros((0, 3), np.float32)) == []


def test_unknown_images_differ_from_one_another_and_repeat() -> None:
    kinds = ood_samples(20, (16, 24), ["cat", "dog"])
    assert list(kinds) == ["noise", "textures", "letters", "digits"]
    assert "digits" not in ood_samples(1, (16, 24), ["zero", "one"])
    assert "letters" not in ood_samples(1, (16, 24), ["a", "b"])
    for kind, images in kinds.items():
        assert images.shape == (20, 3, 16, 24)
        assert images.dtype == torch.uint8
        assert len(images.flatten(1).unique(dim=0)) == 20, kind
        assert torch.equal(images, ood_samples(20, (16, 24), ["cat", "dog"])[kind])
