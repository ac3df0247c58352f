"""Label issues on real label noise: the human labels of CIFAR-10N, planted errors, and CIFAR-10's own labels."""

from datetime import date
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from cleanlab.filter import find_label_issues as find_label_issues_of_cleanlab
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor, nn

from benchmarks.results import commit, machine, replace_section
from callbacks.rendering.markdown import table
from cifar_lit.data.augment import AlternatingFlip, ProgressiveResizing, RandomCrop, apply_augmentations
from cifar_lit.data.cifar import CIFAR10
from cifar_lit.data.splits import hold_out_fold
from cifar_lit.evaluation.label_issues import find_label_issues
from cifar_lit.malloc import keep_freed_memory
from cifar_lit.models.airbench import AirbenchNet
from cifar_lit.models.pixel_normalization import PixelNormalization
from cifar_lit.models.whitening import fit_whitening
from cifar_lit.randomness import SampleRandom, reseed
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from cifar_lit.training.optim.muon import ConvMuon
from cifar_lit.training.optim.schedules import TriangularLR
from cifar_lit.training.precision import multiplies_bfloat16

Noise = Literal["aggre", "random1", "random2", "random3", "worse", "planted", "clean"]

_PLANTED = 0.01
_RECALLS = (0.25, 0.5, 0.75)
_EPOCHS, _BATCH, _WIDTHS = 8, 250, (32, 128, 256)  # airbench94 at about a third of its operations
_FILTERS, _METHODS = ("prune_by_noise_rate", "confident_learning"), ("self_confidence", "normalized_margin")
_AUGMENTATIONS = [AlternatingFlip(), RandomCrop(2), ProgressiveResizing([20, 20, 20, 24, 24, 24, 28, 28])]


def label_noise(
    data: str,
    labels: str,
    noise: list[Noise] | None = None,
    images: int = 50000,
    folds: int = 2,
    examined: int = 2,
    seed: int = 0,
    ckpt_path: str | None = None,
    folder: str = "runs/label_noise",
) -> None:
    """Train on noisy labels in folds, and measure how many label issues are real.

    Networks that an earlier run trained are reused.

    Args:
        data: Folder that holds ``cifar-10-batches-py``.
        labels: CIFAR-10N's labels of the 50,000 training images, as an npz file in torchvision's order.
        noise: CIFAR-10N's sets of labels, ``planted`` for 1 % uniform errors, or ``clean`` for the original labels; by
            default all.
        images: Number of training images to use.
        folds: Number of folds, each predicted by a network trained on the others.
        examined: Number of folds to examine.
        seed: Of the choice of images, the folds, the planted errors and the training.
        ckpt_path: A network trained on CIFAR-10, to examine the test labels as well, as they are and with planted
            errors.
        folder: Where the networks' outputs are kept.

    Source: Wei et al. 2022, arXiv:2110.12088, for the labels; see AirbenchNet for the recipe.
    """
    keep_freed_memory()
    train = CIFAR10(data).load("train")
    assert train is not None
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:images].sort().values
    table_rows = []
    for name in noise or get_args(Noise):
        given, true = (labels_of_set[rows] for labels_of_set in noisy_labels(labels, name, seed))
        predicted = []
        for fold in range(examined):
            file = Path(folder, f"{name}_{images}_seed{seed}", f"fold_{fold}_of_{folds}.pt")
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(train_fold(train.pixels[rows], given, folds, fold, seed), file)
            predicted.append(torch.load(file))
        held_out, logits = (torch.cat([fold[key] for fold in predicted]) for key in ("held_out", "logits"))
        table_rows += measure(f"train images, {name}", logits, given[held_out], true[held_out], held_out)
    if ckpt_path is not None:
        test = CIFAR10(data).load("test")
        assert test is not None
        classifier, batches = read_classifier(Path(ckpt_path)), test.pixels.split(_BATCH)
        logits = torch.cat([classifier.logits(pixels) for pixels in batches])
        for name, rate in (("planted", _PLANTED), ("clean", 0)):
            given = plant_errors(test.labels, rate, seed)
            table_rows += measure(f"test images, {name}", logits, given, test.labels, torch.arange(len(given)))
    header = ["labels", "wrong", "method", "flagged", "precision", "estimated precision", "recall"]
    header += ["average precision of the ranking", f"precision at a recall of {', '.join(map(str, _RECALLS))}"]
    header += ["average precision above that of the highest loss (95 % interval)"]
    text = table(header, table_rows, raw=True) + f"\n\nMeasured on {date.today()}, {commit()}, {machine()}."
    print(text)
    replace_section("label noise", text)


def measure(name: str, logits: Tensor, given: Tensor, true: Tensor, indices: Tensor) -> list[list[str]]:
    """Return rows of a table that compares ways to flag and rank labels.

    Args:
        name: What was examined.
        logits: float (N, 10), out-of-sample.
        given: int64 (N,), the labels to examine.
        true: int64 (N,), the true labels.
        indices: int64 (N,), unique.
    """
    issues = find_label_issues(logits, given, indices)
    probs, labels, wrong = logits.double().softmax(1).numpy(), given.numpy(), (given != true).numpy()
    last = issues.scores.masked_fill(~issues.flagged, -1).argmax()  # the least suspicious label that is flagged
    estimate = f"{float(issues.precision[last]):.2f}" if issues.flagged.any() else ""
    loss, margin = (get_label_quality_scores(labels, probs, method=method) for method in _METHODS)
    default, confident = (find_label_issues_of_cleanlab(labels, probs, filter_by=name, n_jobs=1) for name in _FILTERS)
    of_loss = resampled_precision(loss, wrong) if wrong.any() else np.zeros(0)
    rows = []
    for method, flagged, scores in (
        ("label issues", issues.flagged.numpy(), issues.scores.numpy()),
        ("cleanlab's default: prune by noise rate, highest loss", default, loss),
        ("confident learning, highest loss", confident, loss),
        ("smallest margin", None, margin),
    ):
        cells = ["", "", "", ""] if flagged is None else [f"{flagged.sum():,}", "", estimate * (not rows), ""]
        if wrong.any():
            precision, recall, _ = precision_recall_curve(wrong, -scores)
            at_recalls = " ".join(f"{precision[recall >= level].max():.2f}" for level in _RECALLS)
            cells += [f"{average_precision_score(wrong, -scores):.3f}", at_recalls]
            if scores is not loss:
                low, high = np.quantile(resampled_precision(scores, wrong) - of_loss, [0.025, 0.975])
                cells.append(f"{low:+.4f} to {high:+.4f}")
            if flagged is not None and flagged.any():
                cells[1], cells[3] = f"{wrong[flagged].mean():.2f}", f"{flagged[wrong].mean():.2f}"
        rows.append([name, f"{wrong.sum():,} of {len(wrong):,}", method, *cells, *[""] * (7 - len(cells))])
    return rows


def resampled_precision(scores: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the average precision of a ranking on 500 bootstrap samples of the images, the same for all rankings."""
    samples = np.random.default_rng(0).integers(len(wrong), size=(500, len(wrong)))
    return np.array([average_precision_score(wrong[rows], -scores[rows]) for rows in samples])


def noisy_labels(file: str, noise: Noise, seed: int) -> tuple[Tensor, Tensor]:
    """Return the given and the true labels, int64 (50000,) each."""
    sets = np.load(file)
    true = torch.from_numpy(sets["clean_label"]).long()
    if noise in ("clean", "planted"):
        return plant_errors(true, _PLANTED if noise == "planted" else 0, seed), true
    name = noise.replace("random", "random_label") if noise.startswith("random") else f"{noise}_label"
    return torch.from_numpy(sets[name]).long(), true


def plant_errors(labels: Tensor, rate: float, seed: int) -> Tensor:
    """Return labels int64 (N,), some of them replaced by another one of the ten, each with the same probability."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(labels), generator=generator) < rate
    return (labels + wrong * torch.randint(1, 10, labels.shape, generator=generator)) % 10


def train_fold(pixels: Tensor, labels: Tensor, folds: int, fold: int, seed: int) -> dict[str, Tensor]:
    """Train on all folds but one.

    Args:
        pixels: uint8 (N, 3, 32, 32).
        labels: int64 (N,).
        folds: Number of folds.
        fold: The one to leave out.
        seed: Seed of the folds and the training.

    Returns:
        held_out: int64 (n,), the rows left out.
        logits: float32 (n, 10), averaged over each image and its mirror image.
    """
    kept, held_out = hold_out_fold(labels, folds, fold, seed, [str(label) for label in range(10)])
    reseed(seed, fold)
    normalize = PixelNormalization(*CIFAR10().own_statistics)
    net = AirbenchNet(widths=_WIDTHS).to(memory_format=torch.channels_last)
    fit_whitening(net, [normalize(pixels[kept[:2000]])])
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    # configs/airbench94.yaml, with rates for smaller batches
    biases = {"params": [weight for weight in weights if weight.ndim == 1], "lr": 13.3, "weight_decay": 3.77e-5}
    head = {"params": [net.head.weight], "lr": 168, "weight_decay": 2.99e-6}
    optimizers = [
        ConvMuon([weight for weight in weights if weight.ndim == 4], lr=0.12),
        torch.optim.SGD([biases, head], momentum=0.85, nesterov=True),
    ]
    steps = _EPOCHS * -(-len(kept) // _BATCH)
    schedules = [TriangularLR(optimizer, steps, start=1, peak=0, end=0) for optimizer in optimizers]
    mean, _ = CIFAR10().own_statistics
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16(torch.device("cpu")))
    for epoch in range(_EPOCHS):
        net.train()
        for batch in kept[torch.randperm(len(kept))].split(_BATCH):
            random = SampleRandom(seed, epoch, batch)
            images = normalize(apply_augmentations(_AUGMENTATIONS, pixels[batch], random, mean))
            with autocast:
                logits = net(images.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), labels[batch], label_smoothing=0.2).backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
    logits = (logits_of(net, normalize, pixels[held_out]) + logits_of(net, normalize, pixels[held_out].flip(-1))) / 2
    accuracy = (logits.argmax(1) == labels[held_out]).float().mean()
    print(f"fold {fold}: {accuracy:.4f} agree with the given labels", flush=True)
    return {"held_out": held_out, "logits": logits}


@torch.inference_mode()
def logits_of(net: AirbenchNet, normalize: nn.Module, pixels: Tensor) -> Tensor:
    """Return logits float32 (N, 10) of pixels uint8 (N, 3, 32, 32)."""
    net.eval()
    batches = (normalize(batch).contiguous(memory_format=torch.channels_last) for batch in pixels.split(_BATCH))
    return torch.cat([net(images) for images in batches])
