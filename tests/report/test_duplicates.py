"""The report's section on duplicates, with planted ones."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from statsmodels.stats.proportion import proportion_confint

from cifar_lit.data.folders import ClassFolders
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from tests.support.images import random_photo
from tests.support.program import Outcome


def write_photos(root: Path) -> None:
    """Write photos to class folders, three of whose test images are copies of training images."""
    seed = 0
    for split, count in (("train", 12), ("test", 6)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                random_photo(seed := seed + 1, (32, 32)).save(root / split / name / f"{number}.png")
    shutil.copy(root / "train/cat/3.png", root / "test/cat/copy.png")
    Image.open(root / "train/dog/4.png").save(root / "test/dog/copy.jpg", quality=90)
    pixels = np.asarray(Image.open(root / "train/dog/5.png"))
    Image.fromarray((pixels * 0.8).astype(np.uint8)).save(root / "test/cat/copy_of_dog.png")


def test_the_report_gives_the_accuracy_without_duplicates(
    fit: Callable[..., Path], program: Callable[..., Outcome]
) -> None:
    write_photos(Path("photos"))
    run = fit("photos", "--data", "ClassFolders", "--data.root", "photos", "--data.val_fraction", 0)
    checkpoint = run / "checkpoints" / "last.ckpt"
    few = ("--robustness_images", 0, "--faithfulness_images", 0)
    assert program("report", "--ckpt_path", checkpoint, *few).status == 0
    text = (run / "report" / "report.md").read_text()
    section = text.partition("\n## Duplicates across splits\n")[2].partition("\n## ")[0]
    assert "3 of 15 test images have a near-duplicate among 24 training images" in section
    assert "Those whose class differs from their duplicate's come first (1)." in section
    assert "report_files/duplicates.png" in section
    test = ClassFolders("photos").load("test")
    assert test is not None
    correct = (read_classifier(checkpoint).logits(test.pixels).argmax(1) == test.labels).numpy()
    is_copy = np.array(["copy" in file for file in test.files])
    rows = re.findall(r"test: ([\w ]+) \| (\d+) \| ([\d.]+)% \(([\d.]+)% to ([\d.]+)%\)", section)
    assert [name for name, *_ in rows] == ["all", "duplicates", "without them"]
    for part, (_, number, *percents) in zip((is_copy | True, is_copy, ~is_copy), rows, strict=True):
        images, right = int(part.sum()), int(correct[part].sum())
        expected = [right / images, *proportion_confint(right, images, method="wilson")]
        assert int(number) == images
        assert np.allclose([float(percent) for percent in percents], 100 * np.array(expected), atol=0.006)


def test_a_report_without_duplicates_says_so(fit: Callable[..., Path], program: Callable[..., Outcome]) -> None:
    write_photos(Path("photos"))
    for copy in Path("photos").rglob("copy*"):
        copy.unlink()
    run = fit("photos", "--data", "ClassFolders", "--data.root", "photos", "--data.val_fraction", 0)
    few = ("--robustness_images", 0, "--faithfulness_images", 0)
    assert program("report", "--ckpt_path", run / "checkpoints" / "last.ckpt", *few).status == 0
    text = (run / "report" / "report.md").read_text()
    assert "0 of 12 test images have a near-duplicate among 24 training images" in text
    assert "duplicates.png" not in text
