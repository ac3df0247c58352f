from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import NO_CALLBACKS
from tests.support.runs import equal, weights

BATCHED = ["--data.augment", '["RandomCrop", "HorizontalFlip", "Cutout"]', "--data.mixup", "0.2"]
PER_SAMPLE = ["--data.albumentations", '[{"RandomBrightnessContrast": {"p": 0.5}}, {"HorizontalFlip": {}}]']
DROPOUT = ["--model.net.dropout", "0.3", "--trainer.max_epochs", "2"]
Fit = Callable[..., Path]


@pytest.mark.parametrize("route", [BATCHED, PER_SAMPLE], ids=["batched", "albumentations"])
def test_the_same_seed_gives_bit_identical_weights(route: list[str], fit: Fit) -> None:
    first = weights(fit("first", *route, *DROPOUT))
    plain = [*route, *DROPOUT, *NO_CALLBACKS]
    assert equal(first, weights(fit("no_callbacks", *plain)))
    assert equal(first, weights(fit("two_workers", *plain, "--data.num_workers", 2)))
    assert equal(first, weights(fit("four_workers", *plain, "--data.num_workers", 4)))
    assert not equal(first, weights(fit("other_seed", *plain, "--seed_everything", 1)))


def test_a_callback_that_draws_random_numbers_changes_nothing(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("drawing.py").write_text(
        "import torch, random\n"
        "from lightning.pytorch import Callback\n"
        "class Draws(Callback):\n"
        "    def on_train_batch_end(self, *args):\n"
        "        torch.rand(3), random.random()\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    draws = ["--trainer.callbacks", '["drawing.Draws"]', "--allow_import", "drawing"]
    assert equal(weights(fit("without", *BATCHED, *DROPOUT)), weights(fit("with", *BATCHED, *DROPOUT, *draws)))


def test_each_accumulated_batch_has_its_own_random_numbers(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[tuple[int | str, ...]] = []
    monkeypatch.setattr("cifar_lit.training.classifier.reseed", lambda *parts: keys.append(parts))
    fit("accumulated", "--trainer.accumulate_grad_batches", 2, "--trainer.max_epochs", 2)
    assert len(keys) == len(set(keys)) == 34
