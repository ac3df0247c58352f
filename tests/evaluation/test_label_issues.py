"""Label issues, compared with scikit-learn's neighbors, cleanlab's ranking, and planted errors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cifar_lit.evaluation.label_issues import (
    Reference,
    ReferenceSample,
    estimate_precision,
    find_label_issues,
    neighbor_shares,
)


def clusters(images: int, classes: int = 4, spread: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, C) of a good network, labels and indices; the images of a class are seen alike."""
    labels = torch.arange(images) % classes
    logits = 6 * F.one_hot(labels, classes) + spread * torch.randn(images, classes)
    return logits.float(), labels, torch.arange(images)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_shares_are_those_among_scikit_learns_neighbors() -> None:
    logits, labels = torch.randn(300, 5), torch.randint(0, 5, (300,))
    reference = Reference(logits[:100], labels[:100], torch.arange(100))
    found = neighbor_shares(logits, torch.arange(300), reference)

    centered = (logits - logits.mean(1, keepdim=True)).numpy()
    neighbors = NearestNeighbors(n_neighbors=11, metric="cosine").fit(centered[:100]).kneighbors(centered)[1]
    for image, others in enumerate(neighbors):
        others = others[others != image][:10]  # the square root of 100, without the image itself
        assert found[image].numpy() == pytest.approx(np.bincount(labels[others], minlength=5) / 10)


def test_a_confident_mistake_is_flagged_only_if_the_images_seen_alike_have_the_suggested_label() -> None:
    logits, labels, _ = clusters(2000)
    # the network confidently takes a second kind of class 1 for class 0, in which it also sees some of class 2
    second_kind = torch.tensor([6.0, -2.0, 3.0, -6.0]) + 0.3 * torch.randn(40, 4)
    logits, labels = torch.cat([logits, second_kind]), torch.cat([labels, torch.ones(40, dtype=torch.int64)])
    mislabeled = torch.arange(0, 2000, 50)  # of classes 0 and 2
    labels[mislabeled] = (labels[mislabeled] + torch.randint(1, 4, mislabeled.shape)) % 4
    indices = torch.arange(len(labels))
    found = find_label_issues(logits, labels, indices, Reference(logits, labels, indices))
    assert logits[2000:].softmax(1)[:, 0].min() > 0.8
    assert not found.flagged[2000:].any()
    assert found.flagged[mislabeled].sum() > 20
    assert found.flagged.sum() == found.flagged[mislabeled].sum()
    assert (found.suggested[mislabeled] == mislabeled % 4).all()


def test_nothing_is_flagged_without_disagreement_or_from_a_network_that_knows_nothing() -> None:
    for logits, labels, indices in (
        clusters(200),
        (torch.randn(200, 4), torch.randint(0, 4, (200,)), torch.arange(200)),
        (torch.zeros(1, 4), torch.tensor([1]), torch.tensor([0])),
    ):
        assert not find_label_issues(logits, labels, indices, Reference(logits, labels, indices)).flagged.any()


def test_nothing_is_flagged_by_a_network_that_is_mostly_wrong() -> None:
    logits, labels, indices = clusters(2000)
    seen_as_0 = torch.rand(2000) < 0.7
    logits[seen_as_0] = torch.tensor([6.0, 0, 0, 0]) + 0.5 * torch.randn(int(seen_as_0.sum()), 4)
    assert 0.4 < (logits.argmax(1) == labels).float().mean() < 0.5
    for scale in (1, 0.01):  # neighbors decide the most probable class of an unsure network
        assert not find_label_issues(scale * logits, labels, indices).flagged.any()


def test_precision_by_hand() -> None:
    wrong = [[0.90, 0.10], [0.70, 0.30]]  # both labeled 1
    right = [[0.95, 0.05], [0.95, 0.05], [0.80, 0.20], [0.60, 0.40]]  # all labeled 0
    labels = torch.tensor([1, 1, 0, 0, 0, 0])
    thresholds, precision = estimate_precision(torch.tensor(wrong + right), labels == 1, labels)
    assert thresholds.tolist() == pytest.approx([0.1, 0.3])
    # rates: 1 disagreement for 2 images up to .1, 2 for 3 images up to .3; so 1/2, thus 1.5 of the 2
    assert precision.tolist() == pytest.approx([1, 0.75])


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_the_estimated_precision_is_that_of_planted_errors(rate: float) -> None:
    images, classes = 10_000, 10
    logits = 3 * torch.randn(images, classes)
    true = torch.distributions.Categorical(logits=1.5 * logits).sample()
    wrong = torch.rand(images) < rate
    labels = torch.where(wrong, (true + torch.randint(1, classes, (images,))) % classes, true)
    found = find_label_issues(logits, labels, torch.arange(images))
    assert wrong[found.flagged].float().mean() == pytest.approx(0.75, abs=0.15)
    assert found.flagged.sum() > 0.3 * wrong.sum()
    worst = found.scores.argsort()[: int(wrong.sum())]
    assert wrong[worst].float().mean() == pytest.approx(float(found.precision[worst[-1]]), abs=0.15)


def test_probabilities_are_made_less_sharp_but_not_sharper() -> None:
    logits, labels, indices = clusters(2000, spread=2.0)
    wrong = torch.rand(len(labels)) < 0.05
    labels = torch.where(wrong, (labels + torch.randint(1, 4, labels.shape)) % 4, labels)
    by_sharpness = [find_label_issues(scale * logits, labels, indices).scores for scale in (0.1, 10.0)]
    unchanged = (
        (0.1 * logits).softmax(1).lerp(neighbor_shares(logits, indices, Reference(logits, labels, indices)), 0.1)
    )
    assert torch.allclose(by_sharpness[0], unchanged.gather(1, labels[:, None])[:, 0])
    assert -by_sharpness[1].log().mean() < F.cross_entropy(10 * logits, labels) / 2


def test_the_ranking_beats_cleanlabs_where_the_network_makes_systematic_mistakes() -> None:
    logits, labels, _ = clusters(2000, spread=2.0)
    second_kind = torch.tensor([6.0, -2.0, 3.0, -6.0]) + torch.randn(100, 4)
    logits, labels = torch.cat([logits, second_kind]), torch.cat([labels, torch.ones(100, dtype=torch.int64)])
    wrong = torch.rand(len(labels)) < 0.05
    labels = torch.where(wrong, (labels + torch.randint(1, 4, labels.shape)) % 4, labels)
    indices = torch.arange(len(labels))
    found = find_label_issues(logits, labels, indices, Reference(logits, labels, indices))
    quality = get_label_quality_scores(labels.numpy(), logits.double().softmax(1).numpy())
    ours, cleanlabs = (average_precision_score(wrong, -scores) for scores in (found.scores.numpy(), quality))
    assert ours > cleanlabs + 0.05


def test_a_sample_depends_neither_on_batches_nor_on_processes() -> None:
    logits, labels, indices = torch.randn(12_000, 3), torch.randint(0, 3, (12_000,)), torch.randperm(20_000)[:12_000]

    def sample(rows: Tensor, batch: int) -> Reference:
        metric = ReferenceSample()
        for part in rows.split(batch):
            metric.update(logits[part], labels[part], indices[part])
        return metric.compute()

    once = sample(torch.arange(12_000), 12_000)
    assert len(once.labels) == 5000
    position = {index: row for row, index in enumerate(indices.tolist())}
    rows = torch.tensor([position[index] for index in once.indices.tolist()])
    assert torch.equal(once.logits, logits[rows])
    assert torch.equal(once.labels, labels[rows])

    halves = [sample(part, 700) for part in torch.randperm(12_000).split(6000)]
    merged = ReferenceSample()
    for half in halves:
        merged.update(*half)
    assert all(torch.equal(*pair) for pair in zip(merged.compute(), once, strict=True))


def test_a_single_image_can_be_examined() -> None:
    image = torch.tensor([[2.0, 1.0]]), torch.tensor([1]), torch.tensor([7])
    sample = ReferenceSample()
    sample.update(*image)
    assert find_label_issues(*image, sample.compute()).flagged.tolist() == [False]
