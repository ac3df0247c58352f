"""Top-k mistakes, compared with NumPy, across batches and processes."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_lit.evaluation.top_mistakes import Mistakes, TopKMistakes

COUNT, CLASSES = 500, 5


def evaluation_data(seed: int = 0) -> dict[str, Tensor]:
    """Return images, logits and labels, mostly mistakes; the pixels of each image are its index."""
    random = torch.Generator().manual_seed(seed)
    indices = torch.randperm(COUNT, generator=random)
    return {
        "pixels": (indices % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2),
        "logits": 3 * torch.randn(COUNT, CLASSES, generator=random),
        "labels": torch.randint(0, CLASSES, (COUNT,), generator=random),
        "indices": indices,
    }


def kept(data: dict[str, Tensor], batch: int, count: int = 20, processes: int = 1, **options: object) -> Mistakes:
    """Return the mistakes kept after distributing the batches over the processes in turn."""
    metrics = [TopKMistakes(count, **options) for _ in range(processes)]  # type: ignore[arg-type]
    batches = zip(*(values.split(batch) for values in data.values()), strict=True)
    for metric, values in zip(itertools.cycle(metrics), batches, strict=False):
        metric.update(**dict(zip(data, values, strict=True)))
    states = [iter(metric._kept.values()) for metric in metrics]

    def all_gather(values: Tensor) -> Tensor:
        return values if processes == 1 else torch.stack([next(state) for state in states])

    return metrics[0].gather(all_gather)


def expected_indices(data: dict[str, Tensor], order: str, wrong: np.ndarray) -> list[int]:
    logits = data["logits"].double().numpy()
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label_probs = probs[np.arange(COUNT), data["labels"].numpy()]
    key = -probs.max(1) if order == "confidence" else -label_probs
    ranked = sorted(np.flatnonzero(wrong), key=lambda row: key[row])
    return data["indices"].numpy()[ranked].tolist()


@pytest.mark.parametrize("order", ["confidence", "loss"])
def test_mistakes_and_their_order_match_numpy(order: str) -> None:
    data = evaluation_data()
    wrong = (data["logits"].argmax(1) != data["labels"]).numpy()
    mistakes = kept(data, 64, order=order)
    assert mistakes.indices.tolist() == expected_indices(data, order, wrong)[:20]
    assert (mistakes.errors, mistakes.images) == (wrong.sum(), COUNT)
    assert torch.equal(mistakes.pixels[:, 0, 0, 0].long(), mistakes.indices % 256)
    rows = data["indices"].argsort()[mistakes.indices]
    assert torch.equal(mistakes.labels, data["labels"][rows])
    assert torch.equal(mistakes.logits, data["logits"][rows])
    assert torch.equal(mistakes.predictions, data["logits"][rows].argmax(1))
    assert torch.allclose(mistakes.confidences, data["logits"][rows].softmax(1).amax(1))
    assert torch.allclose(
        mistakes.losses, torch.nn.functional.cross_entropy(mistakes.logits, mistakes.labels, reduction="none")
    )


@pytest.mark.parametrize("order", ["confidence", "loss", "random"])
def test_kept_mistakes_do_not_depend_on_batches_or_processes(order: str) -> None:
    data = evaluation_data()
    expected = kept(data, COUNT, order=order)
    for batch, processes in ((7, 1), (64, 2), (33, 3)):
        other = kept(data, batch, order=order, processes=processes)
        for one, two in zip(expected, other, strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(two))


def test_random_order_depends_on_the_seed_and_is_uniform() -> None:
    data = evaluation_data()
    first, again, other = (kept(data, 64, order="random", seed=seed).indices.tolist() for seed in (0, 0, 1))
    assert first == again != other
    chosen = [index for seed in range(50) for index in kept(data, COUNT, order="random", seed=seed).indices.tolist()]
    assert abs(np.mean(chosen) - COUNT / 2) < 25  # 1,000 draws: a standard error of 4.6
    assert len(set(chosen)) > 200  # of about 400 errors


def test_equal_confidences_are_ordered_by_index() -> None:
    data = evaluation_data()
    data["logits"] = torch.nn.functional.one_hot((data["labels"] + 1) % CLASSES, CLASSES) * 100.0
    assert kept(data, 9).indices.tolist() == list(range(20))


def test_filters_select_by_true_and_predicted_class() -> None:
    data = evaluation_data()
    mistakes = kept(data, 64, true_class=1, predicted_class=3)
    both = (data["labels"] == 1) & (data["logits"].argmax(1) == 3)
    assert mistakes.errors == both.sum() > 0
    assert mistakes.images == (data["labels"] == 1).sum()
    assert set(mistakes.labels.tolist()) == {1}
    assert set(mistakes.predictions.tolist()) == {3}


def test_count_may_be_zero_or_exceed_the_number_of_mistakes() -> None:
    data = evaluation_data()
    correct = data | {"logits": torch.nn.functional.one_hot(data["labels"], CLASSES) * 9.0}
    none = kept(correct, 64)
    assert (len(none.indices), none.errors, none.images) == (0, 0, COUNT)
    few = kept(data, 64, count=10_000)
    assert len(few.indices) == few.errors
    nothing = kept(data, 64, count=0)
    assert len(nothing.indices) == 0
    assert nothing.errors == few.errors


def test_state_does_not_grow_with_the_data() -> None:
    metric = TopKMistakes(20)

    def size() -> int:
        return sum(values.untyped_storage().nbytes() for values in metric._kept.values())

    metric.update(**evaluation_data(0))
    after_one = size()
    for seed in range(1, 20):
        metric.update(**evaluation_data(seed))
    assert size() == after_one < 10_000


def test_nan_logits_are_mistakes() -> None:
    data = evaluation_data()
    data["logits"] = data["logits"].clone()
    data["logits"][3] = torch.nan
    data["labels"][3] = 1  # argmax of NaN is 0
    assert kept(data, 64, count=3).indices.tolist()[0] == data["indices"][3]
