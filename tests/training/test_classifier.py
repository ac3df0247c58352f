from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from cifar_lit.models import TinyNet
from cifar_lit.training.classifier import Classifier
from cifar_lit.training.precision import fastest_precision
from cifar_lit.training.tensorboard_reader import read_history
from cifar_lit.training.trainer import Trainer
from tests.support.program import ROOT, TINY, Outcome
from tests.support.runs import equal, weights

Fit = Callable[..., Path]


def classifier(**settings: object) -> Classifier:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="is an instance of `nn.Module`"):  # the command line saves its recipe instead
        return Classifier(TinyNet(num_classes=10), **settings).eval()  # type: ignore[arg-type]


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_uint8_and_float_pixels_give_the_same_logits() -> None:
    model = classifier()
    assert torch.equal(model(pixels()), model(pixels().float()))


def test_flip_averaging_does_not_care_which_way_an_image_looks() -> None:
    model = classifier(flip_tta=True)
    torch.testing.assert_close(model.evaluate(pixels()), model.evaluate(pixels().flip(-1)))
    plain = classifier()
    average = (plain(pixels()) + plain(pixels().flip(-1))) / 2
    torch.testing.assert_close(model.evaluate(pixels()), average)


def test_translation_averages_three_places_with_the_weights_of_its_source() -> None:
    model, plain = classifier(translate_tta=2, flip_tta=True), classifier(flip_tta=True)
    padded = torch.from_numpy(np.pad(pixels().numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="reflect"))
    moved = [padded[..., :32, :32], padded[..., 4:, 4:]]
    expected = plain.evaluate(pixels()) / 2 + sum(plain.evaluate(view) for view in moved) / 4
    torch.testing.assert_close(model.evaluate(pixels()), expected)
    assert not torch.allclose(model.evaluate(pixels()), plain.evaluate(pixels()))


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    fast, plain = classifier(channels_last=True), classifier(channels_last=False)
    fast.setup("fit")
    assert fast.net.features[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr,index]
    torch.testing.assert_close(fast(pixels()), plain(pixels()))


@pytest.mark.parametrize(("feature", "precision"), [("avx512_bf16", "bf16-mixed"), ("avx512_f", "32-true")])
def test_precision_is_one_that_the_hardware_computes(
    feature: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    assert fastest_precision("cpu") == precision


AIDS = {
    "label smoothing": ["--model.label_smoothing", "0.1"],
    "clipping": ["--trainer.gradient_clip_val", "0.01"],
    "mixup": ["--data.mixup", "0.2"],
    "cutmix": ["--data.cutmix", "1.0"],
    "dropout": ["--model.net.dropout", "0.2"],
    "float32": [],
    "ema": ["--trainer.callbacks+", '{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}'],
    "batched augmentation": ["--data.augment", '["HorizontalFlip"]'],
    "all images": ["--data.val_fraction", "0"],
}


@pytest.mark.parametrize("aid", AIDS)
def test_training_aid_is_one_option_and_changes_what_is_learnt(aid: str, fit: Fit) -> None:
    plain, other = ("bf16-mixed", "32-true") if aid == "float32" else ("32-true", "32-true")
    aided = fit("aided", "--trainer.precision", other, *AIDS[aid])
    assert not equal(weights(fit("plain", "--trainer.precision", plain)), weights(aided))


def test_flip_averaging_does_not_change_training(fit: Fit) -> None:
    plain = weights(fit("plain"))
    assert equal(plain, weights(fit("flip", "--model.flip_tta", "true")))


def test_early_stopping_stops_and_says_so(program: Callable[..., Outcome]) -> None:
    stopping = '{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 1, "min_delta": 99}}'
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("fit", "--config", config, *TINY, "--trainer.max_epochs", 9, "--trainer.callbacks+", stopping)
    assert "stopped early, of 9 epochs" in outcome.out
    assert torch.load("runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_without_validation_the_last_checkpoint_is_the_only_one(fit: Fit) -> None:
    run = fit("all_images", "--data.val_fraction", 0)
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize(("every", "judged"), [(1, [1, 2, 3]), (2, [2, 3]), (3, [3]), (9, [3])])
def test_the_last_epoch_is_validated_however_seldom_the_others_are(fit: Fit, every: int, judged: list[int]) -> None:
    steps = 2  # an epoch
    options = ["--trainer.limit_train_batches", steps, "--trainer.max_epochs", 3]
    run = fit("seldom", *options, "--trainer.check_val_every_n_epoch", every)
    assert [step for step, _ in read_history(run)["val/accuracy"]] == [steps * epoch for epoch in judged]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] + 1 in judged


def test_scheduler_without_total_steps_moves_every_epoch(fit: Fit) -> None:
    schedule = '{"class_path": "StepLR", "init_args": {"step_size": 1, "gamma": 0.5}}'
    run = fit("step", "--trainer.max_epochs", 2, "--model.lr_scheduler", schedule, "--model.lr", 0.08)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 2
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.02)


def test_plateau_scheduler_watches_the_validation_loss(fit: Fit) -> None:
    schedule = '{"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}}'
    fit("plateau", "--model.lr_scheduler", schedule)


def test_compiled_network_keeps_the_names_of_its_weights(
    program: Callable[..., Outcome], fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))  # the compiler itself takes minutes
    run = fit("compiled", "--model.compile", "true")
    assert [type(net) for net in compiled] == [TinyNet]
    assert "model.net.features.0.weight" in weights(run)


class Counts(Callback):
    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *args: object) -> None:
        self.batches += 1


def test_hooks_that_a_callback_does_not_have_are_not_called_in_each_step() -> None:
    callback, seen = Counts(), []
    by_function = LambdaCallback(on_after_backward=lambda *args: seen.append(args))
    trainer = Trainer(callbacks=[callback, by_function], logger=False, accelerator="cpu", enable_checkpointing=False)
    assert callback.on_after_backward is None
    assert callable(callback.on_train_batch_end)
    by_function.on_after_backward(trainer, None)
    assert len(seen) == 1
    assert by_function.on_train_batch_end is None
    assert all(one.on_train_epoch_end is not None for one in trainer.callbacks)


def test_hooks_that_a_callback_has_are_called(fit: Fit) -> None:
    run = fit(
        "counted",
        "--trainer.callbacks+",
        "tests.test_classifier.Writes",
        "--allow_import",
        "tests",
        "--trainer.limit_train_batches",
        3,
    )
    assert (run.parents[1] / "batches").read_text() == "3"


class Writes(Counts):
    def on_fit_end(self, *args: object) -> None:
        Path("runs/batches").write_text(str(self.batches))


def test_a_profiler_that_is_asked_for_profiles(fit: Fit) -> None:
    profiler = "{class_path: SimpleProfiler, init_args: {dirpath: told, filename: profile}}"
    fit("profiled", "--trainer.profiler", profiler, "--trainer.limit_train_batches", 3)
    assert "run_training_epoch" in next(Path("told").iterdir()).read_text()
