"""Evaluation callbacks, run through the command line; their files are read back."""

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torchmetrics.classification import MulticlassCalibrationError

from callbacks.confusion_matrix import ConfusionMatrix
from callbacks.evaluation_callback import EvaluationCallback
from callbacks.grad_cam import GradCAMImages
from callbacks.misclassified import MisclassifiedImages
from callbacks.rendering.confusion import confusion_picture
from callbacks.rendering.overlay import colorize
from cifar_lit.data.batches import Batch
from cifar_lit.data.digits import Digits
from cifar_lit.evaluation.calibration import TEMPERATURES, TemperatureSweep
from cifar_lit.evaluation.label_issues import Reference, find_label_issues
from cifar_lit.inference.bundle import read_bundle
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from cifar_lit.training.classifier import Classifier
from tests.support.images import write_class_folders
from tests.support.program import EXACT, QUIET, ROOT, TINY, Outcome
from tests.support.runs import EVALUATED, PICTURES, equal, events, pictures, texts

Fit = Callable[..., Path]
Program = Callable[..., Outcome]


def table(markdown: str) -> list[list[str]]:
    """Return the cells of a Markdown table, without its header."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def evaluated(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels, indices and pixels of the validation images, from the run's last checkpoint."""
    data = Digits()
    val = data.val_set
    assert val is not None
    batch = val.__getitems__([(0, position) for position in range(len(val))])
    classifier = read_classifier(run / "checkpoints" / "last.ckpt").network
    with torch.inference_mode():
        logits = classifier(batch.pixels)
    return logits.numpy(), batch.labels.numpy(), batch.indices.numpy(), batch.pixels.numpy()


# Results


def test_every_picture_is_written_once_per_epoch(fit: Fit) -> None:
    run = fit("pictures", "--trainer.max_epochs", 2)
    for tag in PICTURES:
        found = pictures(run, tag)
        assert list(found) == [17, 34], tag  # none at step 0, the sanity check
        assert all(min(picture.shape[:2]) >= 300 for picture in found.values())
        assert all(picture.std() > 10 for picture in found.values())


def test_numbers_match_scikit_learn(fit: Fit) -> None:
    run = fit("numbers", *EXACT, "--trainer.max_epochs", 2)
    logits, labels, indices, _ = evaluated(run)
    predictions = logits.argmax(1)
    counts = confusion_matrix(labels, predictions, labels=range(10))
    correct = f"{np.trace(counts)} of {counts.sum()} correct ({np.trace(counts) / counts.sum():.2%})"
    title = f"Confusion matrix: number of images\nvalidation · epoch 2 · step 34 · {correct}"
    expected = confusion_picture(counts, Digits().class_names, "counts", title)
    assert np.array_equal(pictures(run, "1_results/val/confusion matrix counts")[34], expected)

    rows = table(texts(run, "1_results/val/classes")[34])
    precision, recall, f1, support = precision_recall_fscore_support(labels, predictions, zero_division=0)
    for row, *numbers in zip(rows, support, precision, recall, f1, strict=True):
        assert [float(cell) for cell in row[1:]] == pytest.approx(numbers, abs=6e-4)

    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert list(pictures(run, "1_results/val/curves of each class, ROC")) == [34]  # every fifth epoch and the last
    assert pictures(run, "1_results/val/curves of each class, precision-recall")[34].std() > 10
    for label, row in enumerate(table(texts(run, "1_results/val/thresholds")[34])):
        truth = labels == label, shares[:, label]
        areas = roc_auc_score(*truth), average_precision_score(*truth)
        assert [float(cell) for cell in row[1:3]] == pytest.approx(areas, abs=0.02)

    mistakes = counts * (1 - np.eye(10, dtype=int))
    first = table(texts(run, "1_results/val/most confused pairs")[34])[0]
    assert int(first[2]) == mistakes.max()
    assert mistakes[Digits().class_names.index(first[0]), Digits().class_names.index(first[1])] == mistakes.max()

    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(-probs[wrong].max(1), kind="stable")][:20]
    with open(run / "misclassified.csv") as file:
        found = list(csv.DictReader(file))
    assert [int(row["index"]) for row in found] == indices[worst].tolist()
    assert [row["true"] for row in found] == [Digits().class_names[label] for label in labels[worst]]
    assert [row["predicted"] for row in found] == [Digits().class_names[label] for label in predictions[worst]]
    assert [float(row["confidence"]) for row in found] == pytest.approx(probs[worst].max(1).tolist(), abs=1e-4)
    assert {row["step"] for row in found} == {"34"}
    images = Reference(*map(torch.from_numpy, (logits, labels, indices)))
    issues = find_label_issues(*images, images).flagged.numpy()
    assert [row["label_may_be_wrong"] for row in found] == [str(int(one)) for one in issues[worst]]
    shown = texts(run, "2_mistakes/val/misclassified")[34]
    assert f"20 of {len(wrong)} errors in 386 images" in shown
    assert [int(row[0]) for row in table(shown)] == indices[worst].tolist()
    assert [row[5] for row in table(shown)] == ["label may be wrong" if one else "" for one in issues[worst]]


def test_misclassified_picture_shows_the_original_pixels(fit: Fit) -> None:
    run = fit("images", *EXACT)
    logits, labels, _, pixels = evaluated(run)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    worst = wrong[np.argmax(probs[wrong].max(1))]
    picture = pictures(run, "2_mistakes/val/misclassified")[17]
    enlarged = pixels[worst].transpose(1, 2, 0).repeat(4, 0).repeat(4, 1)
    top = 88  # below the title
    assert np.array_equal(picture[top : top + 128, 8 : 8 + 128], enlarged)


@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_validate_and_test_draw_at_the_trained_step(command: str, split: str, fit: Fit, program: Program) -> None:
    run = fit("evaluated", *EXACT, "--trainer.max_epochs", 2)
    drawn = {tag: pictures(run, tag)[34] for tag in EVALUATED}
    for file in run.glob("events*"):
        file.unlink()
    outcome = program(command, "--ckpt_path", run / "checkpoints" / "last.ckpt", *EXACT)
    assert outcome.status == 0, outcome.err
    for tag in EVALUATED:
        again = pictures(run, tag.replace("/val/", f"/{split}/"))
        assert list(again) == [34], tag
        if command == "validate":  # the same weights and images: the same picture, under inference_mode too
            assert np.array_equal(again[34], drawn[tag]), tag
    assert (run / "misclassified_test.csv").exists() == (command == "test")


def test_averaged_weights_are_explained_for_any_order_of_callbacks(fit: Fit, program: Program) -> None:
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}
    names = ["MisclassifiedImages", "GradCAMImages", "ConfusionMatrix", "CalibrationPlot"]
    drawn: list[list[np.ndarray]] = []
    for position, name in ((0, "first"), (4, "last")):
        listed: list[Any] = [{"class_path": name} for name in names]
        listed.insert(position, average)
        run = fit(name, *EXACT, "--trainer.callbacks", str(listed), "--trainer.max_epochs", 2)
        drawn.append([pictures(run, tag)[34] for tag in EVALUATED])
    for file in run.glob("events*"):
        file.unlink()
    outcome = program("validate", "--ckpt_path", run / "checkpoints" / "last.ckpt", *EXACT)
    assert outcome.status == 0, outcome.err
    drawn.append([pictures(run, tag)[34] for tag in EVALUATED])  # from the averaged weights, which are saved
    for one, two, three in zip(*drawn, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


def test_fixed_images_stay_the_same_while_their_heatmaps_change(fit: Fit) -> None:
    run = fit("fixed", "--trainer.max_epochs", 2)
    first, second = pictures(run, "2_mistakes/val/heatmaps/fixed").values()
    assert first.shape == second.shape
    assert np.array_equal(first[100:, 8:136], second[100:, 8:136])
    assert not np.array_equal(first[100:, 144:272], second[100:, 144:272])


def options(name: str, **settings: object) -> list[object]:
    return ["--trainer.callbacks", str([{"class_path": name, "init_args": settings}])]


def test_every_n_epochs_always_includes_the_last_epoch_and_validate(fit: Fit, program: Program) -> None:
    rare = options("ConfusionMatrix", every_n_epochs=3, normalize="true")
    run = fit("rare", *rare, "--trainer.max_epochs", 4)
    assert list(pictures(run, "1_results/val/confusion matrix rows")) == [51, 68]
    assert "1_results/val/confusion matrix counts" not in events(run).Tags()["images"]
    for file in run.glob("events*"):
        file.unlink()
    assert program("validate", "--ckpt_path", run / "checkpoints" / "best.ckpt", *rare).status == 0
    assert len(pictures(run, "1_results/val/confusion matrix rows")) == 1


def test_png_files_contain_the_same_pictures(fit: Fit) -> None:
    run = fit(
        "files", *options("GradCAMImages", png=True, count=2, method="layercam", layers=["features", "features.0"])
    )
    for tag in ("fixed", "mistakes"):
        with Image.open(run / "val" / f"heatmaps_layercam_features_features_0_{tag}" / "step_0000017.png") as file:
            assert np.array_equal(
                np.asarray(file), pictures(run, f"2_mistakes/val/heatmaps layercam features features.0/{tag}")[17]
            )


# Unusual data and settings


def always_correct(self: Classifier, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
    logits = F.one_hot(batch.labels, self.num_classes) * 20.0
    self.calibration.update(logits, batch.labels)
    return {"logits": logits, "labels": batch.labels, "indices": batch.indices}


def test_pictures_without_mistakes_are_still_written(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "validation_step", always_correct)
    monkeypatch.setattr(Classifier, "on_validation_epoch_end", lambda self: self.log("val/accuracy", 1.0))
    run = fit("perfect")
    for tag in PICTURES:
        assert pictures(run, tag)[17].std() > 5
    assert "0 of 0 errors in 386 images" in texts(run, "2_mistakes/val/misclassified")[17]
    assert texts(run, "1_results/val/most confused pairs")[17] == "No mistakes."


@pytest.mark.parametrize(("classes", "size"), [(100, 32), (3, 64), (2, 9)])
def test_many_classes_and_other_sizes(classes: int, size: int, program: Program) -> None:
    names = tuple(f"class {label}" for label in range(classes))
    root = write_class_folders(Path("images"), names, train=4, test=1, size=(size, size))
    data = ["--data", "ClassFolders", "--data.root", root, "--data.val_fraction", 0.5]
    outcome = program("fit", "--config", ROOT / "configs" / "own_images.yaml", *data, *TINY)
    assert outcome.status == 0, outcome.err
    assert "wrote nothing" not in outcome.err
    [run] = Path("runs/own_images").iterdir()
    for tag in PICTURES:
        assert len(pictures(run, tag)) == 1
    with open(run / "misclassified.csv") as file:
        for index, row in enumerate(list(csv.DictReader(file))[:3]):  # red, green and blue images in turn
            assert row["file"].startswith(f"{row['true']}/")
            assert Path("images", "train", row["file"]).is_file()
            [picture] = pictures(run, "2_mistakes/val/misclassified").values()
            tile = picture[92:122, 20 + 136 * index : 50 + 136 * index]
            assert tile.mean((0, 1)).argmax() == int(row["true"].split()[1]) % 3
            if size == 32 and index == 0:  # enlarged to 128
                [explained] = pictures(run, "2_mistakes/val/heatmaps/mistakes").values()
                tile = explained[92:200, 10:130]
                assert tile.mean((0, 1)).argmax() == int(row["true"].split()[1]) % 3


def test_network_without_feature_maps_is_reported_once(fit: Fit, program: Program, monkeypatch: Any) -> None:
    Path("flat.py").write_text(
        "from torch import nn\n"
        "class Flat(nn.Sequential):\n"
        "    def __init__(self, num_classes: int):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("fit", "--config", config, *TINY, "--model.net", "flat.Flat", "--allow_import", "flat")
    assert outcome.status == 0, outcome.err
    assert outcome.err.count("GradCAMImages shows nothing: the network has no feature maps.") == 1
    tags = events(Path("runs/quickstart/version_0")).Tags()["images"]
    assert "2_mistakes/val/misclassified" in tags
    assert not [tag for tag in tags if "heatmaps" in tag]


@pytest.mark.parametrize(
    ("name", "settings", "tags"),
    [
        ("GradCAMImages", {"layers": []}, set()),
        ("GradCAMImages", {"count": 0}, set()),
        ("MisclassifiedImages", {"count": 0}, set()),
        ("ConfusionMatrix", {"every_n_epochs": 0}, set()),
        (
            "GradCAMImages",
            {"layers": ["model.net.features"], "target": "true"},
            {f"2_mistakes/val/heatmaps model.net.features/{kind}" for kind in ("fixed", "mistakes")},
        ),
        ("GradCAMImages", {"images": [999998, 999999]}, {"2_mistakes/val/heatmaps/mistakes"}),
        ("GradCAMImages", {"images": [5], "count": 0}, {"2_mistakes/val/heatmaps/fixed"}),
        ("GradCAMImages", {"images": [], "target": "true", "opacity": 0}, {"2_mistakes/val/heatmaps/mistakes"}),
    ],
)
def test_settings_that_show_little_or_nothing_do_not_stop_training(
    name: str, settings: dict[str, object], tags: set[str], fit: Fit
) -> None:
    run = fit("little", *options(name, **settings))
    assert {tag for tag in events(run).Tags()["images"] if "/val/" in tag} == tags


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "GradCAMImages",
            {"layers": ["layer9"]},
            "no feature map layer9; it has features (32x8x8), features.0 (16x16x16), ",
        ),
        ("GradCAMImages", {"opacity": 2}, "opacity must be from 0"),
        ("GradCAMImages", {"count": -1}, "count must be at least 0, got -1"),
        ("MisclassifiedImages", {"count": -1}, "count must be at least 0, got -1"),
        ("MisclassifiedImages", {"true_class": "cat"}, "unknown class 'cat'; choose from zero, one"),
        ("ConfusionMatrix", {"every_n_epochs": -1}, "every_n_epochs must be at least 0, got -1; 0 switches it off"),
        ("GradCAMImages", {"method": "gradcamera"}, "gradcamera"),
    ],
)
def test_invalid_settings_fail_before_training_with_one_line(
    name: str, settings: dict[str, object], message: str, program: Program
) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("fit", "--config", config, *TINY, *options(name, **settings))
    assert outcome.status == 2
    [line] = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("callbacks.misclassified.image_grid", "MisclassifiedImages"),
        ("callbacks.grad_cam.heatmaps", "GradCAMImages"),
        ("callbacks.confusion_matrix.confusion_picture", "ConfusionMatrix"),
        ("callbacks.grad_cam.feature_maps", "GradCAMImages"),
    ],
)
def test_failing_picture_warns_once_and_training_continues(
    function: str, name: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(function, fail)
    with pytest.warns(UserWarning, match=f"{name} wrote nothing .*RuntimeError: no memory left") as warnings:
        run = fit("failing", "--trainer.max_epochs", 2)
    assert len([warning for warning in warnings if "wrote nothing" in str(warning.message)]) == 1
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    tags = set(events(run).Tags()["images"])
    missing = {tag for tag in PICTURES if tag not in tags}
    assert {tag.split("/")[2].split()[0] for tag in missing} == {
        {"MisclassifiedImages": "misclassified", "GradCAMImages": "heatmaps", "ConfusionMatrix": "confusion"}[name]
    }


def test_order_and_filter_apply_to_picture_table_and_file(fit: Fit) -> None:
    chosen = {"order": "loss", "true_class": "eight", "count": 4}
    run = fit("near", *EXACT, *options("MisclassifiedImages", **chosen))
    logits, labels, indices, _ = evaluated(run)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_class = np.flatnonzero((labels == 8) & (logits.argmax(1) != 8))
    nearest = of_class[np.argsort(-probs[of_class, 8], kind="stable")][:4]
    with open(run / "misclassified_loss_eight.csv") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == indices[nearest].tolist()
    assert [int(row[0]) for row in table(texts(run, "2_mistakes/val/misclassified loss eight")[17])] == indices[
        nearest
    ].tolist()
    assert len(pictures(run, "2_mistakes/val/misclassified loss eight")) == 1


def test_heatmaps_of_two_classes_are_shown_in_this_order(fit: Fit) -> None:
    """Those of the predicted and the true class; for a correct image, of the two most likely classes."""
    settings: dict[str, object] = {"method": "gradcam", "layers": ["features"], "opacity": 1, "colormap": "viridis"}
    run = fit("maps", *EXACT, *options("GradCAMImages", **settings))
    logits, labels, indices, pixels = evaluated(run)
    probs, predicted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True), logits.argmax(1)
    wrong, right = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)[0]
    worst = wrong[np.argmax(probs[wrong].max(1))]
    again = fit("maps", *EXACT, *options("GradCAMImages", **settings, images=indices[[right]].tolist()))
    classifier = read_classifier(again / "checkpoints" / "last.ckpt").network.requires_grad_(True)
    library = GradCAM(classifier.net, [classifier.net.features])
    for name, image, other in (("mistakes", worst, labels[worst]), ("fixed", right, logits[right].argsort()[-2])):
        inputs = classifier.normalize(torch.from_numpy(pixels[image : image + 1]))
        picture = pictures(again, f"2_mistakes/val/heatmaps gradcam features/{name}")[17]
        for left, label in ((144, predicted[image]), (280, other)):
            [heat] = library(inputs, [ClassifierOutputTarget(int(label))])
            expected = colorize(heat.repeat(4, 0).repeat(4, 1), "viridis").astype(int)
            tile = picture[88 : 88 + 128, left : left + 128].astype(int)
            assert np.abs(tile - expected).max() <= 4  # one step of the color map


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_heatmaps_are_drawn_in_every_precision(precision: str, fit: Fit) -> None:
    run = fit("precise", "--trainer.precision", precision, *options("GradCAMImages"))
    assert len(pictures(run, "2_mistakes/val/heatmaps/mistakes")) == 1


def test_attention_rollout_needs_a_vision_transformer(fit: Fit, program: Program) -> None:
    rollout = [*options("GradCAMImages", method="attention_rollout"), "--trainer.precision", "bf16-mixed"]
    net = {"class_path": "timm.create_model", "init_args": {"model_name": "test_vit"}, "dict_kwargs": {"img_size": 32}}
    run = fit("vit", "--model.net", str(net), *rollout, "--model.compile", "true")
    [picture] = pictures(run, "2_mistakes/val/heatmaps attention_rollout/mistakes").values()
    assert picture.std() > 10
    outcome = program("fit", "--config", ROOT / "configs" / "quickstart.yaml", *TINY, *rollout)
    assert outcome.status == 2
    assert (
        "attention_rollout needs a vision transformer with global self-attention, and TinyNet has none" in outcome.err
    )


# Calibration


def test_calibration_error_matches_torchmetrics() -> None:
    torch.manual_seed(0)
    logits, labels = 2 * torch.randn(3000, 7), torch.randint(0, 7, (3000,))
    labels[:1500] = logits[:1500].argmax(1)
    ours = TemperatureSweep()
    for chunk, chunk_labels in zip(logits.split(512), labels.split(512), strict=True):
        ours.update(chunk, chunk_labels)
    losses, calibrations = ours.compute()
    for temperature in (TEMPERATURES[20], 1.0, TEMPERATURES[70]):
        index = TEMPERATURES.index(temperature)
        reference = MulticlassCalibrationError(7, n_bins=15)(logits / temperature, labels)
        assert calibrations[index].error == pytest.approx(float(reference), abs=1e-5)
        assert float(losses[index]) == pytest.approx(float(F.cross_entropy(logits / temperature, labels)), abs=1e-5)


def test_temperature_with_the_lowest_loss_is_kept_for_the_test(fit: Fit, program: Program) -> None:
    run = fit("calibrated", *EXACT, "--trainer.max_epochs", 3)
    logits, labels, _, _ = (torch.from_numpy(values) for values in evaluated(run))
    by_loss = min(TEMPERATURES, key=lambda temperature: float(F.cross_entropy(logits / temperature, labels)))
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["temperature"] == pytest.approx(by_loss)
    assert checkpoint["temperature"] != 1
    assert checkpoint["ood_thresholds"] == pytest.approx(
        {
            "energy": float(logits.logsumexp(1).quantile(0.05)),
            "max_logit": float(logits.amax(1).quantile(0.05)),
            "msp": float(logits.softmax(1).amax(1).quantile(0.05)),
        },
        abs=1e-4,
    )
    assert events(run).Scalars("temperature_scaling/temperature/val")[-1].value == pytest.approx(by_loss)
    error = events(run).Scalars("temperature_scaling/ece/val")[-1].value
    reference = MulticlassCalibrationError(10, n_bins=15)(logits, labels)
    assert error == pytest.approx(float(reference), abs=1e-4)
    assert program("test", "--ckpt_path", run / "checkpoints" / "last.ckpt").status == 0
    assert f"| temperature_scaling/temperature | {by_loss:.4f} |" in texts(run, "1_results/test/metrics")[51]


def test_callbacks_change_neither_checkpoint_nor_predictions(
    fit: Fit, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_all = fit("with_all", *EXACT, "--trainer.max_epochs", 2)
    without = fit("without", *EXACT, "--trainer.max_epochs", 2, "--trainer.callbacks", "[]")
    first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (with_all, without))
    assert first["temperature"] == second["temperature"] != 1
    assert equal(first["state_dict"], second["state_dict"])
    image = Path("digit.png")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(image)
    predictions = []
    for run in (with_all, without):
        assert program("predict", image, "--ckpt_path", run / "checkpoints" / "last.ckpt").status == 0
        predictions.append(Path("predictions.csv").read_text())
        output = Path(f"space_{run.parent.name}")
        assert program("export", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--output", output).status == 0
        assert read_bundle(output / "bundle").recipe.temperature == first["temperature"]
    assert predictions[0] == predictions[1]


# State of the callbacks


@pytest.mark.parametrize(
    "callback",
    [MisclassifiedImages(), GradCAMImages(), ConfusionMatrix()],
    ids=lambda c: type(c).__name__,
)
def test_memory_does_not_grow_with_the_number_of_images(callback: EvaluationCallback) -> None:
    module: Any = SimpleNamespace(class_names=list("abcdefghij"), device=torch.device("cpu"), all_gather=lambda x: x)
    trainer: Any = SimpleNamespace(testing=False, val_dataloaders=None)
    callback.setup(trainer, module, "fit")
    if isinstance(callback, GradCAMImages):
        callback._layers = ["features"]
    callback.reset(trainer, module)
    generator = torch.Generator().manual_seed(0)

    def state_size(batches: int) -> int:
        """Return the size of the state after this many more batches."""
        for number in range(batches):
            pixels = torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8, generator=generator)
            labels = torch.randint(0, 10, (100,), generator=generator)
            indices = torch.arange(100) + 100 * number
            outputs = {"logits": torch.randn(100, 10, generator=generator), "labels": labels, "indices": indices}
            callback.update(module, outputs, Batch(pixels, labels, indices))
        return len(pickle.dumps(vars(callback)))  # including the storage of tensors

    after_few = state_size(60)  # 6,000 images; MisclassifiedImages keeps the logits of 5,000
    assert abs(state_size(60) - after_few) < 1000 < after_few < 1_000_000


def test_callbacks_do_not_modify_the_network(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []

    def note(self: Classifier) -> None:
        hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in self.net.modules()]
        gradients = [parameter.grad is None for parameter in self.parameters()]
        modes = [module.training for module in self.modules()]
        kinds = [(p.dtype, p.device, p.requires_grad) for p in self.parameters()]
        seen.append((sum(hooks), gradients, modes, kinds, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", lambda self: (note(self), self.log("val/accuracy", 0.5)))
    fit("with", "--trainer.num_sanity_val_steps", 0)
    fit("without", "--trainer.num_sanity_val_steps", 0, "--trainer.callbacks", "[]")
    assert seen[0] == seen[1]
    assert seen[0][0] == 1  # that of InferenceModel


def test_progress_bars_of_the_grad_cam_library_are_hidden(program: Program) -> None:
    config = ROOT / "configs" / "quickstart.yaml"
    slow = options("GradCAMImages", method="scorecam", count=1)
    outcome = program("fit", "--config", config, "--model.net", "TinyNet", "--trainer.max_epochs", 1, *slow, *QUIET)
    assert outcome.status == 0, outcome.err
    assert "it/s" not in outcome.err
