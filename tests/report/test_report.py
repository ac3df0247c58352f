"""Reports and comparisons of real runs."""

import contextlib
import csv
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from huggingface_hub import ModelCard, RepoCard
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.digits import Digits
from cifar_lit.errors import InputError
from cifar_lit.evaluation.label_issues import Reference, find_label_issues
from cifar_lit.evaluation.neighbors import features
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.evaluation.significance import paired_difference
from cifar_lit.inference.images import Resizing, read_image
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from main import main
from report.human_votes import read_votes
from space.app.bundle_metadata import REPORT_MARKER
from space.app.loaded_bundle import LoadedBundle
from space.export.evaluate import EvaluationSplit
from space.export.run_metadata import config_to_share
from tests.support.browser import BROWSER, LOWEST_CONTRAST, needs_browser, open_tab
from tests.support.images import write_class_folders
from tests.support.program import EXACT, ROOT, Outcome
from tests.support.runs import equal, texts, weights
from tests.support.stress.page import Server

Program = Callable[..., Outcome]

# Options for a fast report
FEW = ("--robustness_images", "0", "--faithfulness_images", "2")


def write_digits(folder: Path) -> Path:
    """Write twenty test images of the digits to class folders."""
    test = Digits().load("test")
    assert test is not None
    for number in range(20):
        file = folder / Digits().class_names[int(test.labels[number])] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.pixels[number].permute(1, 2, 0).numpy()).save(file)
    return folder


@pytest.fixture(scope="module")
def report(space: Path) -> Path:
    """Return the folder of a report on the run of the shared Space."""
    options = "--ckpt_path last --output report --robustness_images 40 --faithfulness_images 5"
    with contextlib.chdir(space.parent):
        assert main(["report", *options.split()]) == 0
    return space.parent / "report"


def test_a_report_has_all_sections_and_pictures(report: Path) -> None:
    text = (report / "report.md").read_text()
    for heading in (
        "The run", "Results", "Misclassified images", "Calibration", "Training", "The images", "The network",
        "Labels that may be wrong", "Duplicates across splits", "Most similar training images",
        "Corrupted images", "Out-of-distribution images",
        "Faithfulness of the heatmaps",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in text
    assert text.endswith("</details>\n")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    charts = "threshold_roc threshold_precision_recall confusion classes calibration_as_trained"
    charts += " calibration_scaled curves_loss curves_accuracy curves_learning_rate"
    names = ["misclassified", "heatmaps", "augmented", "label_errors", "duplicates", "neighbors"]
    names += [f"chart_{chart}" for chart in charts.split()]
    stems = [Path(picture).stem for picture in pictures]
    assert sorted(stem for stem in stems if not stem.startswith("chart_robustness_")) == sorted(names)
    assert sum(stem.startswith("chart_robustness_") for stem in stems) == 14
    assert all((report / picture).is_file() for picture in pictures)
    findings = text.partition("## ")[0]
    for finding in ("images are classified correctly", "Most often confused", "Confidences are off by",
                    "to tell which are wrong", "Most harmful corruption"):  # fmt: skip
        assert finding in findings
    page = (report / "report.html").read_text()
    dark = list((report / "report_files").glob("dark_*.png"))
    assert {path.stem.removeprefix("dark_") for path in dark} == set(names[:6])
    assert page.count("data:image/png;base64,") == len(pictures) + len(dark)
    assert page.count('<picture><source media="screen and (prefers-color-scheme: dark)"') == len(dark)
    assert page.count('<img class="chart" src="data:') == 14 + len(charts.split())
    anchors = re.findall(r'<a href="#([^"]+)"', page)
    assert len(anchors) > 12
    assert all(f'id="{anchor}"' in page for anchor in anchors)
    assert page.count("color-mix") == 14 * 6  # the accuracies under each corruption, and their mean
    assert '<details id="settings">' in page
    assert 'src="report_files' not in page
    assert "Traceback" not in text


def test_the_front_matter_is_a_valid_model_card(report: Path) -> None:
    card = ModelCard.load(report / "report.md")
    assert card.data.pipeline_tag == "image-classification"
    [accuracy] = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    shown = re.search(r"\| test \| [\d,]+ \| ([\d.]+)%", card.text)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(100 * accuracy.metric_value, abs=0.006)


@pytest.fixture(scope="module")
def space_with_report(report: Path) -> Path:
    """Return the folder of a Space with the report on its run."""
    own = report.parent / "runs" / "quickstart" / "version_0" / "report"
    shutil.copytree(report, own)
    with contextlib.chdir(report.parent):
        assert main(["export", "--ckpt_path", "last", "--output", "with_report"]) == 0
    shutil.rmtree(own)
    return report.parent / "with_report"


def test_an_exported_space_contains_the_report(space_with_report: Path) -> None:
    text = (space_with_report / "README.md").read_text()
    assert RepoCard.load(space_with_report / "README.md").data.sdk == "gradio"
    assert REPORT_MARKER in text
    assert "## Faithfulness of the heatmaps" in text
    links = re.findall(r"\]\((report_files/[^)]+)\)", text)
    assert len(links) > 8
    assert all((space_with_report / link).is_file() for link in links)


@needs_browser
def test_the_report_on_the_page_follows_the_theme_and_fits_the_window(space_with_report: Path, tmp_path: Path) -> None:
    with Server(space_with_report, tmp_path) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        for theme, width in itertools.product(("light", "dark"), (1400, 390)):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(f"{server.address}/?__theme={theme}")
            page.wait_for_selector("#examples img")
            open_tab(page, "Report")
            page.get_by_text("Key findings").locator("visible=true").wait_for()
            page.wait_for_function("[...document.querySelectorAll('.document img')].every(e => e.naturalWidth > 0)")
            sources = page.locator(".document img").locator("visible=true").evaluate_all("es => es.map(e => e.src)")
            shown = {name for name in (Path(source).stem for source in sources) if not name.startswith("chart_")}
            grids = {"misclassified", "heatmaps", "augmented", "label_errors", "duplicates", "neighbors"}
            assert shown == {f"dark_{name}" if theme == "dark" else name for name in grids}
            assert page.locator(".document td span[style*=color-mix]").count() == 14 * 6  # accuracies under corruptions
            expect(page.locator(".document details pre")).not_to_be_visible()
            number = page.locator(".document td").get_by_text(re.compile(r"^[\d.]+% \(.*\)$")).first
            assert number.evaluate("e => getComputedStyle(e).textAlign") == "right"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5
            page.close()
        browser.close()


def test_an_exported_space_omits_a_report_on_another_checkpoint(
    report: Path, program: Program, monkeypatch: Any
) -> None:
    monkeypatch.chdir(report.parent)
    own = Path("runs/quickstart/version_0/report")
    shutil.copytree(report, own)
    card = own / "report.md"
    card.write_text(re.sub("checkpoint: [0-9a-f]{64}", f"checkpoint: {64 * '0'}", card.read_text()))
    outcome = program("export", "--ckpt_path", "last", "--output", "without_report", "--neighbors", 0)
    shutil.rmtree(own)
    assert outcome.status == 0, outcome.err
    assert "describes another checkpoint" in outcome.out
    assert REPORT_MARKER not in Path("without_report/README.md").read_text()


def test_a_report_contains_no_path_of_this_machine(fit: Callable[..., Path], program: Program) -> None:
    here = str(Path.cwd())
    write_class_folders(Path("images"))
    folders = ["--data.root", f"{here}/images", "--data.cache_dir", f"{here}/cache", "--trainer.default_root_dir", here]
    folders += ["--best_checkpoint.dirpath", f"{here}/runs/placed/version_0/checkpoints"]
    run = fit("placed", "--data", "ClassFolders", *folders, "--trainer.logger.save_dir", f"{here}/runs")
    assert here in (run / "config.yaml").read_text()
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", *FEW)
    assert outcome.status == 0, outcome.err
    report = run / "report"
    texts = [(report / name).read_text() for name in ("report.md", "report_files/config.yaml")]
    page = re.sub(r"base64,[^\"]*", "", (report / "report.html").read_text())
    assert all(here not in text for text in (*texts, page))
    assert "--data.root DIR" in texts[0]
    assert not (report / ".report_files").exists()


@pytest.mark.parametrize(
    "logger", ["false", "[RunLogger, {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: other}}]"]
)
def test_the_shared_configuration_supports_any_logger(logger: str) -> None:
    config = {"trainer": {"logger": yaml.safe_load(logger)}, "model": {"net": {"version": "1_0"}}}
    shared = config_to_share(config)
    assert "other" not in str(shared)
    assert shared["model"] == config["model"]


def test_the_configuration_in_a_report_reproduces_its_run(report: Path, program: Program, monkeypatch: Any) -> None:
    ended = program("fit", "--config", report / "report_files" / "config.yaml", "--trainer.logger.save_dir", "again")
    assert ended.status == 0, ended.err
    assert equal(weights(Path("again/quickstart/version_0")), weights(report.parent / "runs/quickstart/version_0"))


def test_label_issues_are_listed_most_suspicious_first(report: Path) -> None:
    with (report / "report_files" / "label_errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["probability of the label"]) for row in rows]
    assert scores == sorted(scores)
    assert len(rows) == 100
    assert rows[0]["suggested"]
    assert all(row["label"] != row["suggested"] for row in rows)


def test_tensorboard_csv_space_and_report_flag_the_same_labels(fit: Callable[..., Path], program: Program) -> None:
    root = write_class_folders(Path("images"), train=30, test=100)
    for number in range(0, 100, 20):  # swap the labels
        cat, dog = (root / "test" / name / f"{number:03}.png" for name in ("cat", "dog"))
        cat.rename(root / "swapped.png")
        dog.rename(cat)
        (root / "swapped.png").rename(dog)
    run = fit("swapped", "--data", "ClassFolders", "--data.root", root, "--trainer.max_epochs", 20, *EXACT)
    checkpoint = run / "checkpoints" / "last.ckpt"
    for command in (("test",), ("report", *FEW), ("export", "--output", "page")):
        outcome = program(*command, "--ckpt_path", checkpoint)
        assert outcome.status == 0, outcome.err

    [text] = texts(run, "2_mistakes/test/misclassified").values()
    tensorboard = {int(index) for index in re.findall(r"^\| (\d+) \|.*label may be wrong", text, re.MULTILINE)}
    with (run / "misclassified_test.csv").open() as file:
        table = {int(row["index"]) for row in csv.DictReader(file) if row["label_may_be_wrong"] == "1"}
    evaluation = EvaluationResult.load(Path("page/bundle/evaluation.safetensors"))
    page = set(evaluation.indices[evaluation.label_issue].tolist())
    with (run / "report" / "report_files" / "label_errors.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    listed = {int(row["index"]) for row in rows if row["may_be_wrong"] == "1"}
    assert len(listed) >= 3
    assert tensorboard == table == page == listed
    assert all(int(Path(row["file"]).stem) % 20 == 0 for row in rows if row["may_be_wrong"] == "1")


def test_an_output_folder_that_cannot_be_written_is_an_error(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    Path("a_file").write_text("")
    outcome = program("report", "--ckpt_path", "last", "--output", "a_file/report", *FEW)
    assert outcome.status == 2
    assert "--output: a_file/report cannot be written" in outcome.err
    assert "Traceback" not in outcome.err


def test_missing_parts_are_listed_and_the_rest_is_written(fit: Callable[..., Path], program: Program) -> None:
    run = fit("bare")
    checkpoint = run / "checkpoints" / "last.ckpt"
    alone = checkpoint.rename(Path("alone.ckpt"))
    outcome = program("report", "--ckpt_path", alone, *FEW)
    assert outcome.status == 0, outcome.err
    text = Path("alone_report/report.md").read_text()
    assert "there are no images to evaluate on" in text
    assert "## The network" in text
    Path("alone_report/report.md").unlink()
    Path("alone_report/report.md").mkdir()
    outcome = program("report", "--ckpt_path", alone, *FEW)
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1] == "error: the report is incomplete: alone_report/report.md: Is a directory"


def test_class_names_are_escaped(fit: Callable[..., Path], program: Program) -> None:
    write_class_folders(
        Path("images"), ("<img src=x onerror=alert(1)>", "a|b [c](javascript:alert(1)) `d` $e$"), test=6
    )
    run = fit("hostile", "--data", "ClassFolders", "--data.root", "images")
    outcome = program(
        "report", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--robustness_images", 4, "--faithfulness_images", 2
    )
    assert outcome.status == 0, outcome.err
    page = (run / "report" / "report.html").read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page
    assert 'href="javascript' not in page
    assert "<code>d</code>" not in page


def test_a_run_without_test_images_is_evaluated_on_its_validation_images(
    fit: Callable[..., Path], program: Program
) -> None:
    write_class_folders(Path("images"), train=40)
    shutil.rmtree("images/test")
    run = fit("untested", "--data", "ClassFolders", "--data.root", "images")
    outcome = program(
        "report", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--robustness_images", 4, "--faithfulness_images", 2
    )
    assert outcome.status == 0, outcome.err
    text = (run / "report" / "report.md").read_text()
    assert "Examined: only the val images" in text
    assert "The epoch was chosen on the val images" in text
    assert "| test |" not in text
    for name in ("cat", "dog"):  # additional images change the split
        shutil.copytree(f"images/train/{name}", f"more/{name}")
        for file in Path("more", name).iterdir():
            file.rename(f"images/train/{name}/more_{file.name}")
    outcome = program(
        "report", "--ckpt_path", run / "checkpoints" / "best.ckpt", "--robustness_images", 4, "--faithfulness_images", 2
    )
    assert "have changed since the run" in outcome.out
    assert "there are no images to evaluate on" in (run / "report" / "report.md").read_text()


def test_runs_are_compared_by_mcnemars_test(fit: Callable[..., Path], program: Program) -> None:
    first, second = fit("first"), fit("second", "--seed_everything", "1", "--trainer.max_epochs", "2")
    outcome = program("report", "--compare", first, second)
    assert outcome.status == 0, outcome.err
    text = Path("comparison/report.md").read_text()
    assert "first/version" in text.replace("\\", "")
    assert r"| seed\_everything | 0 | 1 |" in text
    assert r"| trainer.max\_epochs | 1 | 2 |" in text
    assert "batch_size" not in text.replace("\\", "").partition("## Results")[0].partition("that differ")[2]
    assert "McNemar" in text
    correct = []
    for run in (first, second):
        trained = read_classifier(run / "checkpoints" / "best.ckpt")
        test = Digits().load("test")
        assert test is not None
        correct.append((trained.logits(test.pixels).argmax(1) == test.labels).numpy())
    table = [[(a & b).sum() for b in (correct[1], ~correct[1])] for a in (correct[0], ~correct[0])]
    p_value = statsmodels_mcnemar(table, exact=True).pvalue
    [row] = [line for line in text.splitlines() if line.startswith("| second/") and line.count("|") == 6]
    assert f"| {p_value:.3g} |" in row
    assert f"| {correct[1].mean():.2%} (" in row
    assert Path("comparison/report_files/chart_comparison_val_accuracy.png").is_file()


def test_runs_with_different_classes_are_compared_without_accuracy(fit: Callable[..., Path], program: Program) -> None:
    write_class_folders(Path("images"))
    runs = [fit("digits"), fit("animals", "--data", "ClassFolders", "--data.root", "images")]
    outcome = program("report", "--compare", *runs)
    assert outcome.status == 0, outcome.err
    text = Path("comparison/report.md").read_text()
    assert "the runs have different classes" in text
    assert "comparison_val_accuracy.png" in text


def test_without_mistakes_the_least_confident_are_shown(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    trained = read_classifier(Path("runs/quickstart/version_0/checkpoints/last.ckpt"))
    test = Digits().load("test")
    assert test is not None
    correct = (trained.logits(test.pixels).argmax(1) == test.labels).nonzero()[:, 0][:30]
    for row in correct.tolist():
        file = Path("correct", Digits().class_names[int(test.labels[row])], f"{row}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.pixels[row].permute(1, 2, 0).numpy()).save(file)
    outcome = program("report", "--ckpt_path", "last", "--output", "r2", "--images", "correct", "--count", 3, *FEW)
    assert outcome.status == 0, outcome.err
    text = Path("r2/report.md").read_text()
    assert "None. The least confident images, each with the predicted class and its confidence, the second" in text
    shown = re.findall(r"\| \\#\d+ \| \w+/(\d+)\.png \|", text)
    confidences = (trained.logits(test.pixels[correct]) / trained.recipe.temperature).softmax(1).amax(1)
    assert [int(row) for row in shown] == correct[confidences.argsort()[:3]].tolist()
    assert all(Path("r2/report_files", f"{name}.png").is_file() for name in ("misclassified", "heatmaps", "neighbors"))


def test_a_second_report_to_the_same_folder_is_refused(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    with FileLock("report/.lock"):
        outcome = program("report", "--ckpt_path", "last", "--output", "report", *FEW)
    assert outcome.status == 2
    assert "another report is being written to report" in outcome.err
    assert (report / "report.html").is_file()


def test_own_images_can_be_given_as_unknown(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    write_class_folders(Path("others"), train=3, test=0)
    images = ["--images", str(write_digits(Path("digits")))]
    outcome = program("report", "--ckpt_path", "last", "--output", "r", "--unknown", "others", *images, *FEW)
    assert outcome.status == 0, outcome.err
    text = Path("r/report.md").read_text()
    assert re.search(r"\| folder others \| 6 \| [01]\.\d{4} \|", text)
    assert re.search(r"\| test \| 20 \|", text)
    assert not list(Path.cwd().glob("runs/*/*/near_ood.json"))  # the images of the classes are not the run's
    outcome = program("report", "--ckpt_path", "last", "--output", "r", "--unknown", "others", *FEW)
    assert outcome.status == 0, outcome.err
    (file,) = Path.cwd().glob("runs/*/*/near_ood.json")
    recorded = json.loads(file.read_text())
    assert f"energy {recorded['energy']['folder others']:.3f}, max-logit" in Path("r/report.md").read_text()
    file.unlink()
    assert program("report", "--ckpt_path", "last", "--output", "r", "--unknown", "none").status == 2


def test_the_learning_rate_search_is_in_the_report(fit: Callable[..., Path], program: Program) -> None:
    run = fit("lr_search", "--lr_find", "true", "--model.lr_scheduler", "null")
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", *FEW)
    assert outcome.status == 0, outcome.err
    text = (run / "report" / "report.md").read_text()
    assert "lr_find.png" in text
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"| Commit | {described.stdout.strip()} |" in text


@needs_browser
def test_the_html_report_fits_the_window_and_can_be_printed(report: Path) -> None:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (1100, 400):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(f"file://{report}/report.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
            assert page.evaluate(broken) == 0
            blocks = "[...document.body.children].map(block => block.getBoundingClientRect())"
            boxes = page.evaluate(f"{blocks}.map(box => [box.top, box.bottom])")
            assert len(boxes) > 30
            assert all(above[1] <= below[0] + 1 for above, below in itertools.pairwise(boxes))  # nothing overlaps
        assert page.pdf(format="A4").startswith(b"%PDF")
        browser.close()


def test_runs_evaluated_on_different_images_are_not_compared(fit: Callable[..., Path], program: Program) -> None:
    runs = []
    for name, test in (("all", 6), ("fewer", 4)):
        write_class_folders(Path(name), test=test)
        runs.append(fit(name, "--data", "ClassFolders", "--data.root", name))
    outcome = program("report", "--compare", *runs)
    assert outcome.status == 2
    assert "was not evaluated on the same images as" in outcome.err


def test_commands_use_the_score_that_detects_unknown_images_best(
    report: Path, program: Program, monkeypatch: Any
) -> None:
    monkeypatch.chdir(report.parent)
    (checkpoint,) = Path.cwd().glob("runs/*/*/checkpoints/last.ckpt")
    file = checkpoint.parents[1] / "near_ood.json"
    file.write_text(json.dumps({"energy": {"x": 0.7}, "max_logit": {"x": 0.705}, "msp": {"x": 0.75}}))
    threshold = torch.load(checkpoint, weights_only=True)["ood_thresholds"]["msp"]
    folder = write_digits(Path("digits_to_predict"))
    assert program("predict", folder, "--ckpt_path", "last").status == 0
    with Path("predictions.csv").open() as table:
        flags = {row["file"]: row["possibly_none_of_the_classes"] for row in csv.DictReader(table)}
    classifier = read_classifier(checkpoint)
    for path, flag in flags.items():
        pixels = torch.from_numpy(read_image(Path(path), Resizing((32, 32))).copy()).permute(2, 0, 1)
        assert flag == str(float(classifier.logits(pixels[None]).softmax(1).max()) < threshold)
    for wanted in (None, True):
        options = [] if wanted is None else ["--flag_unknown", "true"]
        assert program("export", "--ckpt_path", "last", "--output", "flagging", *options).status == 0
        recipe = json.loads(Path("flagging/bundle/recipe.json").read_text())
        assert (recipe["ood_score"], recipe["ood_threshold"]) == ("msp", threshold)
        unknown = json.loads(Path("flagging/bundle/metadata.json").read_text())["unknown"]
        assert (unknown["score"], unknown["near"], unknown["flag_images"]) == ("msp", {"x": 0.75}, wanted)
    file.write_text("{}")
    outcome = program("predict", folder, "--ckpt_path", "last")
    assert outcome.status == 2
    assert "near_ood.json cannot be read" in outcome.err
    file.unlink()


def test_the_similarity_to_training_images_is_used_where_it_detects_unknown_images_best(
    fit: Callable[..., Path], program: Program
) -> None:
    run = fit("similar")
    checkpoint, folder = run / "checkpoints" / "last.ckpt", write_digits(Path("digits_to_predict"))
    write_class_folders(Path("others"), train=3, test=0)
    assert program("report", "--ckpt_path", checkpoint, "--unknown", "others", *FEW).status == 0
    near = run / "near_ood.json"
    areas = json.loads(near.read_text())
    digest = areas.pop("checkpoint")
    assert areas.keys() == {"energy", "max_logit", "msp", "knn"}
    areas = {score: {"folder others": 0.99 if score == "knn" else 0.9} for score in areas}
    near.write_text(json.dumps({"checkpoint": digest, **areas}))
    classifier, (train, val) = read_classifier(checkpoint), Digits().train_and_val
    assert val is not None

    def similarities(pixels: torch.Tensor) -> torch.Tensor:
        found, training = (features(classifier.network, [images]) for images in (pixels, train.images.pixels))
        return (found @ training.T).topk(10).values[:, -1]

    threshold = similarities(val.images.pixels).quantile(0.05)
    assert classifier.recipe.ood_score == "knn"
    assert classifier.recipe.ood_threshold == pytest.approx(float(threshold), abs=1e-3)
    assert program("predict", folder, "others", "--ckpt_path", checkpoint).status == 0
    with Path("predictions.csv").open() as table:
        flags = {row["file"]: row["possibly_none_of_the_classes"] for row in csv.DictReader(table)}
    assert set(flags.values()) == {"True", "False"}
    assert program("export", "--ckpt_path", checkpoint, "--output", "similar_space").status == 0
    metadata = json.loads(Path("similar_space/bundle/metadata.json").read_text())["unknown"]
    assert (metadata["score"], metadata["near"]) == ("knn", {"folder others": 0.99})
    network = LoadedBundle.load(Path("similar_space/bundle"), "").network
    for path, flag in flags.items():
        pixels = read_image(Path(path), Resizing((32, 32)))
        score = similarities(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        assert flag == str(bool(score < threshold))
        assert network.run(pixels[None], detect=True)[2] == pytest.approx(score, abs=1e-3)
    other = run / "checkpoints" / "other.ckpt"  # what was measured does not hold for it
    torch.save(torch.load(checkpoint, weights_only=True) | {"temperature": 3.0}, other)
    assert read_classifier(other).recipe.ood_score == "energy"
    Path("drop.csv").write_text("index,decision\n0,drop\n")  # without the training images, k-NN has no features
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["init_args"]["decisions"] = str(Path("drop.csv").absolute())
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert program("report", "--ckpt_path", checkpoint, *FEW).status == 0
    text = (run / "report" / "report.md").read_text()
    assert "web page use the k-NN score" in text
    assert "AUROC: k-NN" not in text
    (run / "training_features.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"training_features.safetensors cannot be read .*; delete it"):
        read_classifier(checkpoint)


def test_predictions_are_compared_with_votes(report: Path, program: Program, monkeypatch: Any) -> None:
    monkeypatch.chdir(report.parent)
    test = Digits().load("test")
    assert test is not None
    votes = np.random.default_rng(0).integers(0, 3, (len(test), 10)) + 20 * np.eye(10, dtype=int)[test.labels.numpy()]
    votes[:40] = np.random.default_rng(1).integers(1, 9, (40, 10))  # people disagree
    np.save("votes.npy", votes)
    options = ("report", "--ckpt_path", "last", "--output", "v", *FEW)
    outcome = program(*options, "--votes", "votes.npy")
    assert outcome.status == 0, outcome.err
    text = Path("v/report.md").read_text()
    (checkpoint,) = Path.cwd().glob("runs/*/*/checkpoints/last.ckpt")
    classifier = read_classifier(checkpoint)
    probs = (classifier.logits(test.pixels) / classifier.recipe.temperature).softmax(1).double().numpy()
    shares = votes / votes.sum(1, keepdims=True)
    chosen = votes[np.arange(len(test)), probs.argmax(1)] == votes.max(1)
    disputed = shares.max(1) < 0.75
    cross_entropy, entropy = -(shares * np.log(probs)).sum(1), scipy_entropy(shares, axis=1)
    for name, part in {"all": disputed | True, "people agree": ~disputed, "people disagree": disputed}.items():
        row = re.search(rf"\| {name} \| (\d+) \| .*% \| ([\d.]+)% \(.*% \| .* \| ([\d.]+) \| ([\d.]+) \|", text)
        assert row is not None
        expected = part.sum(), 100 * chosen[part].mean(), cross_entropy[part].mean(), entropy[part].mean()
        assert [float(cell) for cell in row.groups()] == pytest.approx([*map(float, expected)], abs=6e-3)
    assert f"People agree, and only the network errs ({int((~chosen & ~disputed).sum())} images)" in text
    assert f"People disagree ({int(disputed.sum())} images)" in text
    Path("votes.csv").write_text("index,zero,one\n0,3,1\n")
    outcome = program(*options, "--votes", "votes.csv")
    assert outcome.status == 2
    assert "votes: votes.csv cannot be read (it has no column 'two')" in outcome.err
    np.save("votes.npy", votes[:7])
    outcome = program(*options, "--votes", "votes.npy")
    assert "it has 7 rows; the datasets of the evaluated images have" in outcome.err


def test_votes_in_a_table_name_images_by_file_or_index(tmp_path: Path) -> None:
    images = ImageTensors(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ["a", "b", "c", "d"])
    split, file = EvaluationSplit("test", images, torch.tensor([1, 3])), tmp_path / "votes.csv"
    file.write_text("file,cat,dog\nd,2,5\n")
    assert read_votes(file, [split], ["cat", "dog"])[1].tolist() == [[0, 0], [2, 5]]
    file.write_text("index,dog,cat\n1,4,\n1,1,2\n")  # the votes of two people
    assert read_votes(file, [split], ["cat", "dog"])[1].tolist() == [[2, 5], [0, 0]]
    for text, error in {
        "file,cat,dog\nz,1,1\n": "line 2: there is no test image 'z'",
        "file,cat,dog\nb,1,inf\n": "it contains counts that are negative or not finite",
        "file,cat,dog\nb,1,-1\n": "it contains counts that are negative or not finite",
        "file,cat,dog\nb,1,x\n": "could not convert string to float: 'x'",
    }.items():
        file.write_text(text)
        with pytest.raises(InputError, match=re.escape(error)):
            read_votes(file, [split], ["cat", "dog"])


def test_the_best_checkpoint_is_compared_with_the_last_one_and_the_run_may_name_votes(
    fit: Callable[..., Path], program: Program
) -> None:
    data = Digits()
    val, test = data.val_set, data.load("test")
    assert val is not None
    assert test is not None
    np.save("votes.npy", np.eye(10)[test.labels])
    run = fit("chosen", "--data.votes", "votes.npy", "--trainer.max_epochs", 3)
    best = run / "checkpoints" / "best.ckpt"
    last, content = best.with_name("last.ckpt"), torch.load(best, weights_only=True)
    state = content["state_dict"]
    state |= {name: torch.zeros_like(weight) for name, weight in state.items() if "head" in name}
    last.unlink()  # may be the same file as best.ckpt
    torch.save(content | {"state_dict": state, "epoch": 7, "global_step": 1000}, last)
    pixels = val.images.pixels[val.rows]
    correct = [(read_classifier(file).logits(pixels).argmax(1) == val.labels).numpy() for file in (last, best)]
    assert program("report", "--ckpt_path", best, *FEW).status == 0
    text = (run / "report" / "report.md").read_text()
    low, high = paired_difference(*correct)
    assert (
        f"that of epoch {content['epoch'] + 1}. Compared with the last one, of epoch 8, its accuracy on the val images"
        f" differs by {100 * (correct[1].mean() - correct[0].mean()):+.2f} points"
        f" (95% interval {100 * low:+.2f} to {100 * high:+.2f}), not counting that it was chosen on them."
    ) in text
    assert f"{len(test)} votes on {len(test)} test images, 1.0 each" in text
    assert re.search(r"report --ckpt_path \S+/best.ckpt --robustness_images 0 --faithfulness_images 2\n", text)


def test_a_class_left_out_of_training_is_detected_as_unknown(fit: Callable[..., Path], program: Program) -> None:
    run = fit("left_out")
    options = ("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", *FEW)
    outcome = program(*options, "--unknown_class", "eleven")
    assert outcome.status == 2
    assert "--unknown_class: no class 'eleven'; the classes are zero, one" in outcome.err
    outcome = program(*options, "--unknown_class", "three")
    assert outcome.status == 0, outcome.err
    cells = re.search(r"\| class three \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", (run / "report" / "report.md").read_text())
    assert cells is not None
    data, test = Digits(omit_class="three"), Digits().load("test")
    assert test is not None
    assert data.train_set.labels.unique().tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    trained = read_classifier(run / "unknown" / "class_3" / "run" / "checkpoints" / "last.ckpt")
    logits = trained.logits(test.pixels)[:, [0, 1, 2, 4, 5, 6, 7, 8, 9]]
    expected = [roc_auc_score(test.labels != 3, scores) for scores in (logits.logsumexp(1), logits.amax(1))]
    assert int(cells[1]) == int((test.labels == 3).sum())
    assert [float(cells[2]), float(cells[3])] == pytest.approx(expected, abs=1e-3)
    val = Digits().load("val")  # the score is chosen without the test images
    assert val is not None
    energies = trained.logits(val.pixels)[:, [0, 1, 2, 4, 5, 6, 7, 8, 9]].logsumexp(1)
    assert json.loads((run / "near_ood.json").read_text())["energy"]["class three"] == pytest.approx(
        roc_auc_score(val.labels != 3, energies), abs=1e-3
    )


def test_folds_examine_all_training_images(fit: Callable[..., Path], program: Program) -> None:
    run = fit("folded")
    outcome = program("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--fold_repeats", 2)
    assert (outcome.status, "fold_repeats needs folds, such as --folds 5" in outcome.err) == (2, True)
    outcome = program(
        "report", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--folds", 2, "--fold_repeats", 2,
        "--label_issues", 1500, *FEW,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    text = (run / "report" / "report.md").read_text()
    assert "each by 2 of 4 networks that were not trained on it" in text
    images = Digits().train_set.images
    logits, labels = torch.zeros(len(images), 10), images.labels
    for repeat, fold in itertools.product(range(2), range(2)):
        data, name = Digits(folds=2, fold=fold, split_seed=repeat), f"fold_{fold}_of_2{'_repeat_1' * repeat}"
        trained = read_classifier(run / "folds" / name / "run" / "checkpoints" / "last.ckpt")
        assert data.val_set is not None
        assert not set(data.val_set.rows.tolist()) & set(data.train_set.rows.tolist())
        logits[data.val_set.rows] += trained.logits(images.pixels[data.val_set.rows]) / 2
    with (run / "report" / "report_files" / "label_errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    indices = [int(row["index"]) for row in rows if row["split"] == "train"]
    assert len(rows) == 1500  # as many as asked for, even if no other class is more probable
    assert rows[0]["suggested"]
    assert not rows[-1]["suggested"]
    reference = Reference(logits, labels, torch.arange(len(labels)))
    issues = find_label_issues(*reference, reference)
    assert sorted(indices) == sorted(issues.scores.argsort()[: len(indices)].tolist())
    assert 0 < len(indices) < 1500  # the others listed are test images
    assert not list((run / "folds").rglob("events*"))  # they would add curves in TensorBoard
    assert "Test:" not in outcome.out
