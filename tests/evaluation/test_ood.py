"""Out-of-distribution scores and thresholds, held against pytorch-ood, numpy and scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from cifar_lit.evaluation.ood import SCORES, OODThreshold, auroc, energy, fit_ood_threshold, knn
from space.app.service import flagged
from space.export.ood_samples import ood_samples

REFERENCE = """
import torch
from pytorch_ood.detector import KNN, EnergyBased, MaxLogit, MaxSoftmax
logits, features, training_features = torch.load("images.pt")
scores = {"energy": EnergyBased, "max_logit": MaxLogit, "msp": MaxSoftmax}
scores = {name: detector.score(logits) for name, detector in scores.items()}
scores["knn"] = KNN(None, k=10).fit_features(training_features, torch.zeros(400)).predict_features(features)
torch.save(scores, "scores.pt")
"""


def random_logits(images: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, 10, generator=torch.Generator().manual_seed(seed)) * scale


def test_scores_equal_those_of_pytorch_ood() -> None:
    logits = random_logits(100)
    features, training_features = (F.normalize(random_logits(count), dim=1) for count in (50, 400))
    torch.save([logits, features, training_features], "images.pt")
    # In another process, since the command line would find its networks of the same names as ours
    subprocess.run([sys.executable, "-c", REFERENCE], check=True)
    expected = torch.load("scores.pt")
    for name, score in SCORES.items():
        torch.testing.assert_close(score(logits), -expected[name])
    similarities = knn(features, training_features)
    torch.testing.assert_close((2 - 2 * similarities).sqrt().double(), expected["knn"], atol=1e-3, rtol=0)
    assert knn(features, training_features[:3]).tolist() == (features @ training_features[:3].T).amin(1).tolist()


def test_threshold_flags_a_twentieth_of_the_first_split() -> None:
    val, test = random_logits(2000), random_logits(1000, seed=1)
    flat = torch.zeros(50, 10)
    unknown = fit_ood_threshold({"val": energy(val), "test": energy(test)}, {"flat": energy(flat)}, "energy")
    values = logsumexp(val.numpy(), axis=1)
    assert np.allclose(energy(val), values, atol=1e-5)
    assert unknown.threshold == pytest.approx(np.quantile(values, 0.05), abs=1e-4)
    assert float((energy(val) < unknown.threshold).float().mean()) == pytest.approx(0.05, abs=0.001)
    assert unknown.false_alarms == pytest.approx((logsumexp(test.numpy(), axis=1) < unknown.threshold).mean())
    assert unknown.found == {"flat": float(np.log(10) < unknown.threshold)}
    assert (unknown.fitted_on, unknown.evaluated_on) == ("val", "test")
    assert fit_ood_threshold({"val": energy(val)}, {}, "energy", threshold=1.5).threshold == 1.5


@pytest.mark.parametrize(
    ("found", "near", "useful"),
    [
        ({"noise": 0.9, "letters": 0.0}, {}, True),
        ({"noise": 0.2, "letters": 0.01}, {}, False),  # hardly more often than images of the classes
        ({"noise": 0.9}, {"cat": 0.9, "dog": 0.71}, True),
        ({"noise": 0.9}, {"cat": 0.9, "dog": 0.69}, False),
    ],
)
def test_the_page_flags_images_only_where_that_is_useful_or_wanted(
    found: dict[str, float], near: dict[str, float], useful: bool
) -> None:
    def threshold(flag_images: bool | None) -> OODThreshold:
        return OODThreshold("energy", 3.0, "val", "test", 0.06, found, near, flag_images)

    scores = np.full(2, 2.9, np.float32)  # below the threshold
    assert threshold(None).useful is useful
    assert flagged(threshold(None), scores) == [useful, useful]
    assert flagged(threshold(True), scores) == [True, True]
    assert flagged(threshold(False), scores) == [False, False]
    assert flagged(threshold(None), scores[:0]) == []
    assert flagged(None, scores) == [None, None]


def test_auroc_is_the_fraction_of_correctly_ordered_pairs() -> None:
    scores = energy(random_logits(50)), energy(random_logits(70, scale=1))
    known, other = (one.round(decimals=1) for one in scores)  # with ties
    pairs = known[:, None] - other[None]
    expected = float(((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean())
    assert auroc(known, other) == pytest.approx(expected, abs=1e-6)
    assert roc_auc_score([1] * 50 + [0] * 70, torch.cat([known, other])) == pytest.approx(expected, abs=1e-6)


def test_ood_samples_are_distinct_and_deterministic() -> None:
    kinds = ood_samples(20, (16, 24), ["cat", "dog"])
    assert list(kinds) == ["noise", "textures", "letters", "digits"]
    assert "digits" not in ood_samples(1, (16, 24), ["zero", "one"])
    assert "letters" not in ood_samples(1, (16, 24), ["a", "b"])
    for kind, images in kinds.items():
        assert images.shape == (20, 3, 16, 24)
        assert images.dtype == torch.uint8
        assert len(images.flatten(1).unique(dim=0)) == 20, kind
        assert torch.equal(images, ood_samples(20, (16, 24), ["cat", "dog"])[kind])
