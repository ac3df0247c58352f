"""Statistics of the report, compared with independent implementations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from cifar_lit.data.digits import Digits
from cifar_lit.data.splits import hold_out_fold
from cifar_lit.evaluation.corruptions import EXTRA, KINDS, corrupt
from cifar_lit.evaluation.faithfulness import Faithfulness, InsertionDeletion
from cifar_lit.evaluation.neighbors import features, nearest
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.evaluation.robustness import evaluate_robustness
from cifar_lit.evaluation.significance import bootstrap_mean, holm, mcnemar, paired_difference, wilson
from cifar_lit.inference.bundle import read_bundle
from report.training import multiply_adds


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (10, 10), (9068, 10_000), (1, 3)])
def test_accuracy_intervals_match_statsmodels(correct: int, images: int) -> None:
    assert wilson(correct, images) == pytest.approx(proportion_confint(correct, images, method="wilson"), abs=1e-9)


def test_loss_intervals_match_a_numpy_bootstrap() -> None:
    random = np.random.default_rng(1)
    values = np.random.default_rng(0).exponential(size=400)
    means = values[random.integers(0, 400, (4000, 400))].mean(1)
    assert bootstrap_mean(values) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    assert bootstrap_mean(values[:1]) == (values[0], values[0])


def test_mcnemars_test_matches_statsmodels() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(500) < 0.9, random.random(500) < 0.87
    table = [[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)]
    assert mcnemar(first, second) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_heatmap_methods_are_compared_by_paired_differences() -> None:
    noise, gain = np.random.default_rng(0).normal(0, 1, 50), np.random.default_rng(1).normal(0.1, 0.01, 50)
    one, better, other = Faithfulness(noise, noise), Faithfulness(noise, noise + gain), Faithfulness(noise, -noise)
    assert ttest_rel(better.insertion, one.insertion).pvalue < 1e-9
    assert not better.has_similar_insertion(one)  # despite the variance of both
    assert other.has_similar_insertion(one) == (ttest_rel(other.insertion, one.insertion).pvalue > 0.05)


def test_holms_correction_matches_statsmodels() -> None:
    p_values = np.random.default_rng(0).random(9) ** 3
    assert holm(list(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), rel=1e-9)
    assert holm([]) == []


def test_the_interval_of_a_difference_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):  # accuracies of 0.9 and 0.85 on the same images
        draws = random.random(200)
        low, high = paired_difference(draws < 0.9, (draws < 0.8) | (draws > 0.95))
        covered += low <= -0.05 <= high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_interval_of_a_difference_matches_bonett_and_price() -> None:
    first, second = np.zeros(40, bool), np.zeros(40, bool)
    first[:5], second[5:6] = True, True  # five correct only in the first, one only in the second
    gained, lost = 2 / 42, 6 / 42
    margin = 1.959964 * ((gained + lost - (gained - lost) ** 2) / 42) ** 0.5
    expected = (gained - lost - margin, gained - lost + margin)
    assert paired_difference(first, second) == pytest.approx(expected, abs=1e-6)


def test_nearest_are_sorted_by_cosine_similarity() -> None:
    features = nn.functional.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    indices, similarities = nearest(features[:4], features, 5)
    assert indices[:, 0].tolist() == [0, 1, 2, 3]
    expected = nn.functional.cosine_similarity(features[:4, None], features[indices], dim=-1)
    assert torch.allclose(similarities, expected, atol=1e-6)
    assert (similarities.diff(dim=1) <= 0).all()


def test_multiply_adds_match_the_formula() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)).eval()
    counts, total = multiply_adds(net, torch.zeros(1, 3, 8, 8))
    assert counts == {"0": 8 * 3 * 9 * 64, "1": 0, "2": 0, "3": 8 * 64 * 10}
    assert total == sum(counts.values())


def test_multiply_adds_of_attention_are_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images.flatten(2).transpose(1, 2)
            outputs: torch.Tensor = self.inner(tokens, tokens, tokens, need_weights=False)[0]
            return outputs.mean(1)

    _, total = multiply_adds(Attention().eval(), torch.zeros(1, 8, 4, 4))
    assert total == 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8  # projections; scores and weighted sums


def test_areas_match_hand_computed_values() -> None:
    class Kept(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            kept = inputs[:, 0].mean((1, 2)).clamp(1e-6, 1 - 1e-6)
            return torch.stack([kept, 1 - kept], 1).log()

    classes = torch.zeros(3, 1, dtype=torch.int64)
    result = InsertionDeletion(Kept().eval(), torch.ones(3, 1, 4, 4), classes, steps=4).evaluate(torch.rand(3, 4, 4))
    assert result.insertion.shape == (3,)
    assert result.insertion == pytest.approx(np.trapezoid([0, 0.25, 0.5, 0.75, 1], dx=0.25), abs=1e-5)
    assert result.deletion == pytest.approx(np.trapezoid([1, 0.75, 0.5, 0.25, 0], dx=0.25), abs=1e-5)


def test_features_are_the_inputs_of_the_head(space: Path) -> None:
    trained = read_bundle(space / "bundle")
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    head = [module for module in trained.network.modules() if isinstance(module, nn.Linear)][-1]
    captured: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    trained.network.net(trained.network.preprocess(pixels))
    handle.remove()
    assert torch.allclose(
        features(trained.network, pixels.split(2)), nn.functional.normalize(captured[0], dim=1), atol=1e-6
    )


def test_a_space_contains_the_nearest_training_images_of_its_mistakes(space: Path) -> None:
    trained, result = read_bundle(space / "bundle"), EvaluationResult.load(space / "bundle" / "evaluation.safetensors")
    train = Digits().train_set
    wrong = (result.predictions != result.labels) & (result.neighbors[:, 0] >= 0)
    assert wrong.any()
    candidates = features(trained.network, train.images.pixels[train.rows].split(256))
    for image in wrong.nonzero()[:3, 0].tolist():
        similarities = candidates @ features(trained.network, [result.pixels[image : image + 1]])[0]
        nearest_rows = train.rows[similarities.topk(3).indices]
        assert torch.equal(result.training_pixels[result.neighbors[image]], train.images.pixels[nearest_rows])
        assert torch.equal(result.training_labels[result.neighbors[image]], train.images.labels[nearest_rows])


def test_robustness_equals_the_accuracy_on_corrupted_images(space: Path) -> None:
    trained = read_bundle(space / "bundle")
    pixels = torch.randint(0, 256, (150, 3, 32, 32), dtype=torch.uint8)
    labels = trained.logits(pixels).argmax(1)
    result = evaluate_robustness(trained.logits, pixels, labels, seed=3)
    assert result.clean == 1
    images = pixels.permute(0, 2, 3, 1).numpy()
    changed = np.concatenate([corrupt(images[:128], "fog", 4, 3), corrupt(images[128:], "fog", 4, 4)])
    predicted = trained.logits(torch.from_numpy(changed).permute(0, 3, 1, 2)).argmax(1)
    assert result.accuracy[KINDS.index("fog"), 3] == pytest.approx(accuracy_score(labels, predicted))
    counted = [index for index, kind in enumerate(KINDS) if kind not in EXTRA]
    assert len(counted) == 11
    assert result.mean_error == pytest.approx(1 - np.mean([result.accuracy[index].mean() for index in counted]))


def test_a_map_of_the_used_pixels_is_more_faithful_than_its_inverse() -> None:
    class Corner(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            corner = inputs[:, :, :4, :4].sum((1, 2, 3))
            return torch.stack([corner, torch.zeros_like(corner)], 1)

    inputs, maps = torch.ones(5, 3, 8, 8), torch.zeros(5, 8, 8)
    maps[:, :4, :4] = 1
    classes = torch.zeros(5, 1, dtype=torch.int64)
    curves = InsertionDeletion(Corner().eval(), inputs, classes)
    faithful, inverse = curves.evaluate(maps), curves.evaluate(-maps)
    assert faithful.insertion.mean() > inverse.insertion.mean()
    assert faithful.deletion.mean() < inverse.deletion.mean()


def test_folds_are_disjoint_stratified_and_complete() -> None:
    labels = torch.arange(60) % 3
    folds = [hold_out_fold(labels, 4, fold, 7, ["a", "b", "c"]) for fold in range(4)]
    assert sorted(row for _, held in folds for row in held.tolist()) == list(range(60))
    assert all(sorted([*kept.tolist(), *held.tolist()]) == list(range(60)) for kept, held in folds)
    expected = list(StratifiedKFold(4, shuffle=True, random_state=7).split(labels, labels))
    assert [held.tolist() for _, held in folds] == [held.tolist() for _, held in expected]
