from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cifar_lit.errors import InputError
from cifar_lit.models import TinyNet
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.precision import fastest_precision
from cifar_lit.training.tensorboard_reader import read_history
from tests.support.images import write_class_folders
from tests.support.program import NO_CALLBACKS, ROOT, TINY, Outcome
from tests.support.runs import equal, weights

Fit = Callable[..., Path]


def classifier(**settings: object) -> Classifier:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="is an instance of `nn.Module`"):  # the CLI saves its recipe instead
        return Classifier(TinyNet(num_classes=10), **settings).eval()  # type: ignore[arg-type]


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_uint8_and_float_pixels_give_the_same_logits() -> None:
    model = classifier()
    assert torch.equal(model(pixels()), model(pixels().float()))


def test_flip_tta_is_invariant_to_mirroring() -> None:
    model = classifier(flip_tta=True)
    torch.testing.assert_close(model.evaluate(pixels()), model.evaluate(pixels().flip(-1)))
    plain = classifier()
    average = (plain(pixels()) + plain(pixels().flip(-1))) / 2
    torch.testing.assert_close(model.evaluate(pixels()), average)


def test_translate_tta_averages_three_positions_with_airbench_weights() -> None:
    model, plain = classifier(translate_tta=2, flip_tta=True), classifier(flip_tta=True)
    padded = torch.from_numpy(np.pad(pixels().numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="reflect"))
    moved = [padded[..., :32, :32], padded[..., 4:, 4:]]
    expected = plain.evaluate(pixels()) / 2 + sum(plain.evaluate(view) for view in moved) / 4
    torch.testing.assert_close(model.evaluate(pixels()), expected)
    assert not torch.allclose(model.evaluate(pixels()), plain.evaluate(pixels()))


@pytest.mark.parametrize("translate_tta", [-1, 32])
def test_translate_tta_is_limited_by_the_image_size(translate_tta: int) -> None:
    with pytest.raises(InputError, match=f"at least 0 and less than 32, got {translate_tta}"):
        Classifier(TinyNet(num_classes=10), translate_tta=translate_tta)


@pytest.mark.parametrize("translate_tta", [0, 2])
def test_adaptive_tta_averages_the_views_of_uncertain_images_only(translate_tta: int) -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    plain, all_views = classifier(), classifier(flip_tta=True, translate_tta=translate_tta)
    adaptive = classifier(flip_tta=True, translate_tta=translate_tta, adaptive_tta=True)
    center = plain(images).mean(0).detach()
    for model in (plain, all_views, adaptive):
        model.net.head[2].bias.data -= center  # type: ignore[union-attr,index]  # so that predictions differ
        for parameter in model.net.head.parameters():  # type: ignore[union-attr]  # and some are certain
            parameter.data *= 400
    uncertain = plain(images).softmax(1).amax(1) < 0.7
    assert 0 < uncertain.sum() < len(images)
    expected = torch.where(uncertain[:, None], all_views.evaluate(images), plain.evaluate(images))
    torch.testing.assert_close(adaptive.evaluate(images), expected)
    torch.testing.assert_close(adaptive.evaluate(images[:1]), expected[:1])  # regardless of the rest of the batch


def test_channels_last_changes_only_the_memory_layout() -> None:
    fast, plain = classifier(channels_last=True), classifier(channels_last=False)
    fast.setup("test")
    assert fast.net.features[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr,index]
    torch.testing.assert_close(fast(pixels()), plain(pixels()))


def test_setup_tries_the_network_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    monkeypatch.setattr(Classifier, "device", torch.device("meta"))  # Lightning names the GPU before it moves weights
    model.setup("test")


@pytest.mark.parametrize(("feature", "precision"), [("avx512_bf16", "bf16-mixed"), ("avx512_f", "32-true")])
def test_precision_matches_the_hardware(feature: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    assert fastest_precision("cpu") == precision


OPTIONS = {
    "label smoothing": ["--model.label_smoothing", "0.1"],
    "clipping": ["--trainer.gradient_clip_val", "0.01"],
    "mixup": ["--data.mixup", "0.2"],
    "cutmix": ["--data.cutmix", "1.0"],
    "dropout": ["--model.net.dropout", "0.2"],
    "float32": [],
    "ema": ["--trainer.callbacks+", '{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}'],
    "batched augmentation": ["--data.augment", '["HorizontalFlip"]'],
    "other images": ["--data.folds", "5"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_training_option_changes_the_weights(option: str, fit: Fit) -> None:
    plain, other = ("bf16-mixed", "32-true") if option == "float32" else ("32-true", "32-true")
    changed = fit("changed", *NO_CALLBACKS, "--trainer.precision", other, *OPTIONS[option])
    assert not equal(weights(fit("plain", *NO_CALLBACKS, "--trainer.precision", plain)), weights(changed))


def test_flip_tta_does_not_change_training(fit: Fit) -> None:
    plain = weights(fit("plain", *NO_CALLBACKS))
    assert equal(plain, weights(fit("flip", *NO_CALLBACKS, "--model.flip_tta", "true")))


def test_early_stopping_is_reported(program: Callable[..., Outcome]) -> None:
    stopping = '{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 1, "min_delta": 99}}'
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("fit", "--config", config, *TINY, "--trainer.max_epochs", 9, "--trainer.callbacks+", stopping)
    assert "stopped early; trainer.max_epochs is 9" in outcome.out
    assert torch.load("runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_without_validation_the_last_checkpoint_is_the_only_one(fit: Fit) -> None:
    root = write_class_folders(Path("images"), train=8)
    run = fit("all_images", "--data", "ClassFolders", "--data.root", root, "--data.val_fraction", 0)
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize(("every", "evaluated"), [(1, [1, 2, 3]), (2, [2, 3]), (3, [3]), (9, [3])])
def test_the_last_epoch_is_always_validated(fit: Fit, every: int, evaluated: list[int]) -> None:
    steps = 2  # per epoch
    options = ["--trainer.limit_train_batches", steps, "--trainer.max_epochs", 3]
    run = fit("rare", *options, "--trainer.check_val_every_n_epoch", every)
    assert [step for step, _ in read_history(run)["val/accuracy"]] == [steps * epoch for epoch in evaluated]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] + 1 in evaluated


def test_scheduler_without_total_steps_moves_every_epoch(fit: Fit) -> None:
    schedule = '{"class_path": "StepLR", "init_args": {"step_size": 1, "gamma": 0.5}}'
    run = fit("step", "--trainer.max_epochs", 2, "--model.lr_scheduler", schedule, "--model.lr", 0.08)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 2
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.02)


def test_plateau_scheduler_monitors_the_validation_loss(fit: Fit) -> None:
    schedule = '{"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}}'
    fit("plateau", "--model.lr_scheduler", schedule)


def test_compiled_network_keeps_the_names_of_its_weights(
    program: Callable[..., Outcome], fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))  # actual compilation takes minutes
    run = fit("compiled", "--model.compile", "true")
    assert [type(net) for net in compiled] == [TinyNet]
    assert "model.net.features.0.weight" in weights(run)
