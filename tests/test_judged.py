"""What a bundle keeps of an evaluation, against independent computations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from torchmetrics.classification import MulticlassCalibrationError

from cifar_lit.bundle import Recipe, TrainedClassifier
from cifar_lit.data.batches import LabelledImages
from cifar_lit.errors import InputError
from cifar_lit.judged import Judged, energy, fit_unknown, worth_keeping
from space.judging import Images, judge
from space.unknown_images import unknown_images

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


def judged() -> tuple[TrainedClassifier, Judged]:
    images = LabelledImages(PIXELS, LABELS)
    sets = [Images("val", images, torch.arange(100)), Images("test", images, torch.arange(100, 300))]
    trained, found, unknown = judge(network(), sets, most=20)
    assert found is not None
    assert unknown is not None
    return trained, found


def test_the_scores_equal_those_of_scikit_learn_and_torchmetrics() -> None:
    trained, found = judged()
    logits, labels = trained.logits(PIXELS[100:]), LABELS[100:]
    assert np.array_equal(found.counts, confusion_matrix(labels, logits.argmax(1), labels=range(3)))
    assert found.loss == pytest.approx(log_loss(labels, logits.double().softmax(1)), abs=1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    precision, recall, f1, support = precision_recall_fscore_support(labels, logits.argmax(1), zero_division=0)
    assert np.allclose(found.by_class(), np.stack([support, precision, recall, f1], 1))
    for error, temperature in zip(found.calibration_errors(), (1.0, trained.recipe.temperature), strict=True):
        metric = MulticlassCalibrationError(3, n_bins=15)
        assert error == pytest.approx(float(metric((logits / temperature).softmax(1), labels)), abs=1e-5)


def test_the_temperature_is_that_of_the_lowest_validation_loss() -> None:
    trained, _ = judged()
    logits, labels = trained.logits(PIXELS[:100]), LABELS[:100]

    def loss(temperature: float) -> float:
        return float(log_loss(labels, (logits.double() / temperature).softmax(1)))

    chosen = trained.recipe.temperature
    assert 1 / 7 < chosen < 7
    assert loss(chosen) <= min(loss(chosen * 1.05), loss(chosen / 1.05), loss(1.0)) + 1e-6


def test_it_keeps_the_most_confident_mistakes_and_some_images_of_each_cell() -> None:
    trained, found = judged()
    logits, labels = trained.logits(PIXELS[100:]), LABELS[100:]
    confidence, said = logits.softmax(1).max(1)
    wrong = (said != labels).nonzero()[:, 0]
    hardest = wrong[confidence[wrong].argsort(descending=True)][:20]
    assert set((hardest + 100).tolist()) <= set(found.indices.tolist())
    for true in range(3):
        for predicted in range(3):
            here = int(((found.labels == true) & (found.predictions == predicted)).sum())
            assert here >= min(8, int(found.counts[true, predicted]))
    assert torch.equal(found.pixels, PIXELS[found.indices])
    assert torch.equal(found.labels, LABELS[found.indices])
    assert torch.allclose(found.logits, trained.logits(found.pixels), atol=1e-5)


def test_nothing_is_kept_twice_and_everything_when_there_is_room() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 4
    assert worth_keeping(logits, labels, 100, of_each_cell=50).tolist() == list(range(50))
    assert worth_keeping(logits, labels, 0, of_each_cell=0).tolist() == []


def test_an_evaluation_is_read_back_as_it_was_saved() -> None:
    _, found = judged()
    found.save(Path("judged.safetensors"))
    again = Judged.load(Path("judged.safetensors"))
    assert (again.split, again.loss) == (found.split, found.loss)
    for name in ("counts", "calibration", "pixels", "labels", "logits", "indices"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    Path("judged.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="holds no evaluation"):
        Judged.load(Path("judged.safetensors"))


def test_the_threshold_calls_a_twentieth_of_the_first_split_unknown() -> None:
    generator = torch.Generator().manual_seed(2)
    val, test = torch.randn(2000, 10, generator=generator) * 3, torch.randn(1000, 10, generator=generator) * 3
    flat = torch.zeros(50, 10)
    unknown = fit_unknown({"val": val, "test": test}, {"flat": flat})
    values = logsumexp(val.numpy(), axis=1)
    assert np.allclose(energy(val), values, atol=1e-5)
    assert unknown.threshold == pytest.approx(np.quantile(values, 0.05), abs=1e-4)
    assert float(unknown.flags(val).float().mean()) == pytest.approx(0.05, abs=0.001)
    assert unknown.false_alarms == pytest.approx((logsumexp(test.numpy(), axis=1) < unknown.threshold).mean())
    assert unknown.found == {"flat": float(np.log(10) < unknown.threshold)}
    assert (unknown.fitted_on, unknown.judged_on) == ("val", "test")


def test_unknown_images_differ_from_one_another_and_repeat() -> None:
    kinds = unknown_images(20, (16, 24), ["cat", "dog"])
    assert list(kinds) == ["noise", "textures", "letters", "digits"]
    assert "digits" not in unknown_images(1, (16, 24), ["zero", "one"])
    for kind, images in kinds.items():
        assert images.shape == (20, 3, 16, 24)
        assert images.dtype == torch.uint8
        assert len(images.flatten(1).unique(dim=0)) == 20, kind
        assert torch.equal(images, unknown_images(20, (16, 24), ["cat", "dog"])[kind])
