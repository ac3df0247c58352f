"""The report: each number against another computation, and the whole from a real run."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cleanlab.filter import find_label_issues
from huggingface_hub import ModelCard, RepoCard
from scipy import ndimage, stats
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from callbacks.label_errors import ConfidentThresholds, suspected
from cifar_lit.bundle import read_bundle
from cifar_lit.checkpoints import read_classifier
from cifar_lit.data.digits import Digits
from cifar_lit.data.splits import hold_out_fold
from cifar_lit.judged import Judged, energy
from space.markdown import REPORT
from space.report.corruptions import EXTRA, KINDS, SEVERITIES, corrupted
from space.report.faithfulness import areas
from space.report.label_errors import suspects
from space.report.robustness import robustness, unknown_auroc
from space.report.significance import bootstrap_mean, holm, mcnemar, paired_difference, wilson
from space.report.training import multiply_adds
from space.similar import features, nearest
from tests.conftest import Outcome, equal, weights, write_class_folders

Program = Callable[..., Outcome]


# Numbers


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (9068, 10_000), (1, 3)])
def test_intervals_of_accuracy_are_statsmodels(right: int, images: int) -> None:
    assert wilson(right, images) == pytest.approx(proportion_confint(right, images, method="wilson"), abs=1e-9)


def test_intervals_of_the_loss_are_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    found = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
    expected = found.confidence_interval
    assert bootstrap_mean(values) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_mcnemars_test_is_statsmodels() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(500) < 0.9, random.random(500) < 0.87
    table = [[(a & b).sum() for b in (second, ~second)] for a in (first, ~first)]
    assert mcnemar(first, second) == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_suspects_are_cleanlabs_also_where_a_class_is_missing() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    shares = np.eye(4)[labels] * 4 + random.random((300, 4))
    shares /= shares.sum(1, keepdims=True)
    wrong = labels.copy()
    wrong[:10] = (labels[:10] + 1) % 3  # the fourth class has no image
    shares[0] = (0.001, 0.001, 0.001, 0.997)
    found = suspects(wrong, shares)
    metric = ConfidentThresholds(4)
    metric.update(torch.from_numpy(shares), torch.from_numpy(wrong))
    marked = suspected(torch.from_numpy(shares), torch.from_numpy(wrong), metric.compute())
    assert sorted(found.rows.tolist()) == marked.nonzero()[:, 0].tolist()  # the same are marked in TensorBoard
    assert found.scores.tolist() == [shares[row, wrong[row]] for row in found.rows]
    assert found.scores.tolist() == sorted(found.scores)
    assert 0 < len(found.rows) <= len(set(range(10)) & set(found.rows.tolist()))  # none but wrong ones
    assert [labels[row] for row in found.rows if row < 10] == [
        label for row, label in zip(found.rows, found.suggested, strict=True) if row < 10
    ]


def test_doubtful_labels_are_cleanlabs_of_its_confident_joint() -> None:
    random = np.random.default_rng(1)
    labels = random.choice(5, 2000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    shares = random.dirichlet([0.5] * 5, 2000)  # of which many are sure of several classes, or of none
    metric = ConfidentThresholds(5)
    for part in np.array_split(np.arange(2000), 3):
        metric.update(torch.from_numpy(shares[part]), torch.from_numpy(labels[part]))
    found = suspected(torch.from_numpy(shares), torch.from_numpy(labels), metric.compute())
    expected = find_label_issues(labels, shares, filter_by="confident_learning", n_jobs=1)
    assert found.numpy().tolist() == expected.tolist()
    assert 0 < found.sum() < 2000


def test_holms_correction_is_statsmodels() -> None:
    chances = np.random.default_rng(0).random(9) ** 3
    assert holm(list(chances)) == pytest.approx(multipletests(chances, method="holm")[1].tolist(), rel=1e-9)
    assert holm([]) == []


def test_the_interval_of_a_difference_covers_it() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):  # accuracies of .9 and .85 on the same images
        lot = random.random(200)
        low, high = paired_difference(lot < 0.9, (lot < 0.8) | (lot > 0.95))
        covered += low <= -0.05 <= high
    assert 0.92 <= covered / 400 <= 0.99


def test_auroc_is_the_share_of_pairs_that_the_energy_orders_rightly() -> None:
    generator = torch.Generator().manual_seed(0)
    known, other = torch.randn(50, 10, generator=generator) * 3, torch.randn(70, 10, generator=generator)
    pairs = energy(known)[:, None] - energy(other)[None]
    expected = float(((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean())
    assert unknown_auroc(known, {"noise": other})["noise"] == pytest.approx(expected, abs=1e-6)
    assert roc_auc_score([1] * 50 + [0] * 70, energy(torch.cat([known, other]))) == pytest.approx(expected, abs=1e-6)


def test_nearest_are_sorted_by_cosine() -> None:
    features = nn.functional.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    places, similarities = nearest(features[:4], features, 5)
    assert places[:, 0].tolist() == [0, 1, 2, 3]
    expected = nn.functional.cosine_similarity(features[:4, None], features[places], dim=-1)
    assert torch.allclose(similarities, expected, atol=1e-6)
    assert (similarities.diff(dim=1) <= 0).all()


def test_multiply_adds_are_those_of_the_formula() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)).eval()
    parts, total = multiply_adds(net, torch.zeros(1, 3, 8, 8))
    assert parts == {"0": 8 * 3 * 9 * 64, "1": 0, "2": 0, "3": 8 * 64 * 10}
    assert total == sum(parts.values())


def test_multiply_adds_of_attention_are_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images.flatten(2).transpose(1, 2)
            found: torch.Tensor = self.inner(tokens, tokens, tokens, need_weights=False)[0].mean(1)
            return found

    _, total = multiply_adds(Attention().eval(), torch.zeros(1, 8, 4, 4))
    assert total == 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8  # in, out; scores, sums


def test_areas_are_those_of_the_curve_by_hand() -> None:
    class Share(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            kept = inputs[:, 0].mean((1, 2)).clamp(1e-6, 1 - 1e-6)  # of the pixels
            return torch.stack([kept, 1 - kept], 1).log()

    found = areas(Share().eval(), torch.ones(3, 1, 4, 4), torch.zeros(3, 1, dtype=torch.int64), torch.rand(3, 4, 4), 4)
    assert found.insertion == pytest.approx(np.trapezoid([0, 0.25, 0.5, 0.75, 1], dx=0.25), abs=1e-5)
    assert found.deletion == pytest.approx(np.trapezoid([1, 0.75, 0.5, 0.25, 0], dx=0.25), abs=1e-5)


def test_features_are_what_the_head_takes(space: Path) -> None:
    trained = read_bundle(space / "bundle")
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    head = [module for module in trained.network.modules() if isinstance(module, nn.Linear)][-1]
    taken: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    trained.network.net(trained.network.inputs_of(pixels))
    handle.remove()
    assert torch.allclose(features(trained, pixels.split(2)), nn.functional.normalize(taken[0], dim=1), atol=1e-6)


def test_a_space_keeps_the_training_images_most_like_its_mistakes(space: Path) -> None:
    trained, judged = read_bundle(space / "bundle"), Judged.load(space / "bundle" / "judged.safetensors")
    train = Digits().train_set
    wrong = (judged.predictions != judged.labels) & (judged.neighbours[:, 0] >= 0)
    assert wrong.any()
    known = features(trained, train.images.pixels[train.rows].split(256))
    for image in wrong.nonzero()[:3, 0].tolist():
        alike = known @ features(trained, [judged.pixels[image : image + 1]])[0]
        kept = judged.neighbours[image]
        assert judged.similarities[image].tolist() == pytest.approx(alike.topk(3).values.tolist(), abs=1e-5)
        nearest_row = train.rows[alike.argmax()]
        assert torch.equal(judged.training_pixels[kept[0]], train.images.pixels[nearest_row])
        assert judged.training_labels[kept[0]] == train.images.labels[nearest_row]


def test_robustness_is_the_accuracy_on_corrupted_images(space: Path) -> None:
    trained = read_bundle(space / "bundle")
    pixels = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8)
    labels = trained.logits(pixels).argmax(1)
    found = robustness(trained, pixels, labels, seed=3)
    assert found.clean == 1
    changed = corrupted(pixels.permute(0, 2, 3, 1).numpy(), "fog", 4, 3)
    said = trained.logits(torch.from_numpy(changed).permute(0, 3, 1, 2)).argmax(1)
    assert found.accuracy[KINDS.index("fog"), 3] == pytest.approx(accuracy_score(labels, said))
    counted = [place for place, kind in enumerate(KINDS) if kind not in EXTRA]
    assert len(counted) == 11
    assert found.mean_error == pytest.approx(1 - np.mean([found.accuracy[place].mean() for place in counted]))


def test_a_map_of_what_is_used_is_more_faithful_than_its_opposite() -> None:
    class Corner(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen = inputs[:, :, :4, :4].sum((1, 2, 3))
            return torch.stack([seen, torch.zeros_like(seen)], 1)

    inputs, maps = torch.ones(5, 3, 8, 8), torch.zeros(5, 8, 8)
    maps[:, :4, :4] = 1
    classes = torch.zeros(5, 1, dtype=torch.int64)
    faithful, opposite = areas(Corner().eval(), inputs, classes, maps), areas(Corner().eval(), inputs, classes, -maps)
    assert faithful.insertion > opposite.insertion
    assert faithful.deletion < opposite.deletion


@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_grow_with_severity_and_repeat(kind: str) -> None:
    y, x = np.mgrid[:32, :32]
    smooth = np.stack([128 + 100 * np.sin(x / 3), 128 + 100 * np.cos(y / 4), 64 + 2 * (x + y)], -1)
    images = np.repeat(smooth.clip(0, 255).astype(np.uint8)[None], 6, 0)
    changes = []
    for severity in range(1, SEVERITIES + 1):
        found = corrupted(images, kind, severity)
        assert found.dtype == np.uint8
        assert found.shape == images.shape
        assert np.array_equal(found, corrupted(images, kind, severity))
        changes.append(np.abs(found.astype(int) - images).mean())
    assert changes[0] > 0
    assert changes[-1] > changes[0] or kind == "saturation"  # which falls, then rises


def test_corruptions_are_what_they_are_called() -> None:
    images = np.random.default_rng(0).integers(60, 200, (40, 32, 32, 3), dtype=np.uint8)
    noise = corrupted(images, "gaussian noise", 5).astype(float) - images
    assert noise.std() / 255 == pytest.approx(0.10, rel=0.05)
    blurred = corrupted(images, "gaussian blur", 5)
    for channel in range(3):
        expected = ndimage.gaussian_filter(images[0, ..., channel].astype(np.float32), 1.0, mode="nearest")
        assert np.abs(blurred[0, ..., channel] - expected).max() <= 1
    contrast = corrupted(images, "contrast", 5)
    assert contrast.std((1, 2)) == pytest.approx(0.15 * images.std((1, 2)), rel=0.05)
    impulses = corrupted(images, "impulse noise", 5)
    assert np.isin(impulses, (0, 255)).mean() == pytest.approx(0.07, rel=0.1)
    bright = corrupted(images, "brightness", 2).astype(float)
    assert (bright.max(-1) - images.max(-1)).mean() / 255 == pytest.approx(0.1, rel=0.05)


def test_folds_are_disjoint_stratified_and_cover_all() -> None:
    labels = torch.arange(60) % 3
    parts = [hold_out_fold(labels, 4, fold, 7, ["a", "b", "c"]) for fold in range(4)]
    assert sorted(row for _, held in parts for row in held.tolist()) == list(range(60))
    assert all(sorted([*kept.tolist(), *held.tolist()]) == list(range(60)) for kept, held in parts)
    expected = list(StratifiedKFold(4, shuffle=True, random_state=7).split(labels, labels))
    assert [held.tolist() for _, held in parts] == [held.tolist() for _, held in expected]


# The whole


@pytest.fixture(scope="module")
def report(space: Path) -> Path:
    """The folder of a report on the run that the shared Space was exported from."""
    import contextlib

    from main import main

    with contextlib.chdir(space.parent):
        assert main(["report", "--ckpt_path", "last", "--output", "report", "--robustness_images", "40"]) == 0
    return space.parent / "report"


def test_a_report_has_all_its_parts_and_pictures(report: Path) -> None:
    text = (report / "report.md").read_text()
    for heading in (
        "The run", "Results", "Misclassified images", "Calibration", "Training", "The images", "The network",
        "Labels that may be wrong", "Training images most alike", "Corrupted images", "Images of something else",
        "Faithfulness of the heatmaps", "Settings",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) >= 9
    assert all((report / picture).is_file() for picture in pictures)
    page = (report / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert 'src="report_files' not in page
    assert "Traceback" not in text


def test_a_reports_front_matter_is_a_valid_model_card(report: Path) -> None:
    card = ModelCard.load(report / "report.md")
    assert card.data.pipeline_tag == "image-classification"
    [accuracy] = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    shown = re.search(r"\| test \| [\d,]+ \| ([\d.]+)%", card.text)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(100 * accuracy.metric_value, abs=0.006)


def test_the_report_is_in_the_readme_of_the_space(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    own = Path("runs/quickstart/version_0/report")
    shutil.copytree(report, own)
    outcome = program("export", "--ckpt_path", "last", "--output", "with_report")
    shutil.rmtree(own)
    assert outcome.status == 0, outcome.err
    text = Path("with_report/README.md").read_text()
    assert "another checkpoint" not in outcome.out
    assert RepoCard.load("with_report/README.md").data.sdk == "gradio"
    assert REPORT in text
    assert "## Faithfulness of the heatmaps" in text
    links = re.findall(r"\]\((report_files/[^)]+)\)", text)
    assert len(links) > 8
    assert all(Path("with_report", link).is_file() for link in links)


def test_a_report_on_another_checkpoint_is_not_in_the_readme(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    own = Path("runs/quickstart/version_0/report")
    shutil.copytree(report, own)
    card = own / "report.md"
    card.write_text(re.sub("checkpoint: [0-9a-f]{64}", f"checkpoint: {64 * '0'}", card.read_text()))
    outcome = program("export", "--ckpt_path", "last", "--output", "without_report", "--neighbours", 0)
    shutil.rmtree(own)
    assert outcome.status == 0, outcome.err
    assert "tells of another checkpoint" in outcome.out
    assert REPORT not in Path("without_report/README.md").read_text()


def test_nothing_in_a_report_names_a_folder_of_this_machine(report: Path) -> None:
    texts = [(report / name).read_text() for name in ("report.md", "report_files/config.yaml")]
    page = re.sub(r"base64,[^\"]*", "", (report / "report.html").read_text())
    assert all(str(report.parent) not in text for text in (*texts, page))
    assert not (report / ".report_files").exists()


def test_the_configuration_of_a_report_repeats_its_run(report: Path, program: Program, monkeypatch: Any) -> None:
    ended = program("fit", "--config", report / "report_files" / "config.yaml", "--trainer.logger.save_dir", "again")
    assert ended.status == 0, ended.err
    assert equal(weights(Path("again/quickstart/version_0")), weights(report.parent / "runs/quickstart/version_0"))


def test_a_reports_label_errors_are_listed(report: Path) -> None:
    with (report / "report_files" / "label_errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["probability of the label"]) for row in rows]
    assert scores == sorted(scores)
    assert rows
    assert all(row["label"] != row["suggested"] for row in rows)


def test_a_folder_that_cannot_be_written_is_named(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    Path("a_file").write_text("")
    outcome = program("report", "--ckpt_path", "last", "--output", "a_file/report", "--robustness_images", 0)
    assert outcome.status == 2
    assert "--output: a_file/report cannot be written" in outcome.err
    assert "Traceback" not in outcome.err


def test_what_lacks_is_told_and_the_rest_is_written(fit: Callable[..., Path], program: Program) -> None:
    run = fit("bare")
    checkpoint = run / "checkpoints" / "last.ckpt"
    alone = checkpoint.rename(Path("alone.ckpt"))
    outcome = program("report", "--ckpt_path", alone, "--robustness_images", "0")
    assert outcome.status == 0, outcome.err
    text = Path("alone_report/report.md").read_text()
    assert "there are no images at hand" in text
    assert "## The network" in text
    Path("alone_report/report.md").unlink()
    Path("alone_report/report.md").mkdir()
    outcome = program("report", "--ckpt_path", alone, "--robustness_images", "0")
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == "error: the report is not complete: alone_report/report.md: Is a directory"


def test_names_of_classes_are_shown_and_never_run(fit: Callable[..., Path], program: Program) -> None:
    write_class_folders(
        Path("images"), ("<img src=x onerror=alert(1)>", "a|b [c](javascript:alert(1)) `d` $e$"), test=6
    )
    run = fit("hostile", "--data", "ClassFolders", "--data.root", "images")
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--robustness_images", 4)
    assert outcome.status == 0, outcome.err
    page = (run / "report" / "report.html").read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page
    assert 'href="javascript' not in page
    assert "<code>d</code>" not in page


def test_a_run_without_test_images_is_judged_by_its_validation_images(
    fit: Callable[..., Path], program: Program
) -> None:
    write_class_folders(Path("images"), train=40)
    shutil.rmtree("images/test")
    run = fit("untested", "--data", "ClassFolders", "--data.root", "images")
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--robustness_images", 4)
    assert outcome.status == 0, outcome.err
    text = (run / "report" / "report.md").read_text()
    assert "Examined: the val images alone" in text
    assert "The epoch was chosen by the val images" in text
    assert "| test |" not in text
    for name in ("cat", "dog"):  # more of them: other images are held out now
        shutil.copytree(f"images/train/{name}", f"more/{name}")
        for file in Path("more", name).iterdir():
            file.rename(f"images/train/{name}/more_{file.name}")
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--robustness_images", 4)
    assert "no longer those of the run" in outcome.out
    assert "there are no images at hand to judge by" in (run / "report" / "report.md").read_text()


def test_runs_are_compared_with_a_test_of_the_difference(fit: Callable[..., Path], program: Program) -> None:
    first, second = fit("first"), fit("second", "--seed_everything", "1", "--trainer.max_epochs", "2")
    outcome = program("report", "--compare", first, second)
    assert outcome.status == 0, outcome.err
    text = Path("comparison/report.md").read_text()
    assert "first/version" in text.replace("\\", "")
    assert "McNemar" in text
    right = []
    for run in (first, second):
        trained = read_classifier(run / "checkpoints" / "best.ckpt")
        test = Digits().load("test")
        assert test is not None
        right.append((trained.logits(test.pixels).argmax(1) == test.labels).numpy())
    table = [[(a & b).sum() for b in (right[1], ~right[1])] for a in (right[0], ~right[0])]
    chance = statsmodels_mcnemar(table, exact=True).pvalue
    [row] = [line for line in text.splitlines() if line.startswith("| second/") and line.count("|") == 5]
    assert f"| {chance:.3g} |" in row
    assert f"| {right[1].mean():.2%} (" in row
    assert Path("comparison/report_files/comparison.png").is_file()


def test_runs_judged_by_other_images_are_not_compared(fit: Callable[..., Path], program: Program) -> None:
    runs = []
    for name, test in (("all", 6), ("fewer", 4)):
        write_class_folders(Path(name), test=test)
        runs.append(fit(name, "--data", "ClassFolders", "--data.root", name))
    outcome = program("report", "--compare", *runs)
    assert outcome.status == 2
    assert "was judged by other images than" in outcome.err


def test_folds_examine_all_training_images(fit: Callable[..., Path], program: Program) -> None:
    run = fit("folded")
    outcome = program(
        "report", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--folds", 2, "--robustness_images", 0
    )
    assert outcome.status == 0, outcome.err
    text = (run / "report" / "report.md").read_text()
    assert "each by one of 2 networks that did not learn from it" in text
    folds = [Digits(folds=2, fold=fold) for fold in range(2)]
    shares = torch.zeros(len(folds[0].train_set.images), 10)
    for fold, data in enumerate(folds):
        trained = read_classifier(run / "folds" / f"fold_{fold}_of_2" / "run" / "checkpoints" / "last.ckpt")
        assert data.val_set is not None
        assert not set(data.val_set.rows.tolist()) & set(data.train_set.rows.tolist())
        shares[data.val_set.rows] = trained.logits(data.val_set.images.pixels[data.val_set.rows]).softmax(1)
    labels = folds[0].train_set.images.labels.numpy()
    with (run / "report" / "report_files" / "label_errors.csv").open() as file:
        told = sorted(int(row["index"]) for row in csv.DictReader(file) if row["images"] == "train")
    issues = find_label_issues(labels, shares.numpy(), filter_by="confident_learning", n_jobs=1)
    assert told == np.flatnonzero(issues).tolist()
