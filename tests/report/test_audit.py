"""Audits of folders with planted faults, of a CSV file and of images in memory."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.support.images import random_photo, write_class_folders
from tests.support.program import Outcome

Program = Callable[..., Outcome]
Row = dict[str, str]


def write_photos(root: Path, per_class: int = 5, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Write photos without faults to ``root/<split>/<class>/``."""
    seed = 0
    for split in splits:
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                random_photo(seed := seed + 1, (200, 150)).save(root / split / name / f"{number}.png")
    return root


def rows_of(folder: str = "audit") -> list[Row]:
    with Path(folder, "report_files", "issues.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def issues(folder: str = "audit") -> set[tuple[str, str, str]]:
    """Return issue, file and the file it duplicates of each row."""
    return {(row["issue"], row["file"], row["other file"]) for row in rows_of(folder)}


def audit(program: Program, root: Path, *options: object) -> Outcome:
    outcome = program("audit", "--data", "ClassFolders", "--data.root", root, "--data.val_fraction", 0, *options)
    assert outcome.status == 0, outcome.err
    return outcome


def test_clean_images_have_no_issues(program: Program) -> None:
    outcome = audit(program, write_photos(Path("photos")))
    assert rows_of() == []
    assert "No issues found." in outcome.out
    assert "20 images audited: audit/report.html" in outcome.out
    assert "| cat | 5 | 5 |" in Path("audit/report.md").read_text()


def plant_faults(root: Path) -> None:
    cat, dog, test = root / "train" / "cat", root / "train" / "dog", root / "test" / "dog"
    (cat / "text.jpg").write_text("no image")
    photo = random_photo(100, (200, 150))
    photo.save(cat / "cut.jpg")
    (cat / "cut.jpg").write_bytes((cat / "cut.jpg").read_bytes()[:-2000])
    random_photo(101, (20, 25)).save(cat / "tiny.png")
    random_photo(102, (1000, 900)).save(cat / "huge.jpg")
    random_photo(103, (400, 100)).save(cat / "odd.png")
    random_photo(104, (200, 150)).point(lambda value: value // 3).save(dog / "dark.png")
    random_photo(105, (200, 150)).filter(ImageFilter.GaussianBlur(8)).save(dog / "blurry.png")
    noise = np.random.default_rng(0).integers(100, 104, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(dog / "uniform.png")
    random_photo(106, (200, 150)).save(dog / "png.jpg", "PNG")
    shutil.copy(cat / "0.png", cat / "same.png")
    Image.open(cat / "1.png").save(cat / "again.jpg", quality=60)
    Image.open(cat / "2.png").resize((90, 70)).save(cat / "resized.png")
    Image.open(cat / "3.png").save(test / "moved.jpg", quality=80)
    shutil.copy(cat / "4.png", test / "copied.png")


def test_planted_faults_are_found_and_nothing_else(program: Program) -> None:
    plant_faults(write_photos(Path("photos")))
    outcome = audit(program, Path("photos"), "--quality.max_megapixels", 0.8)
    assert issues() == {
        ("unreadable", "cat/text.jpg", ""),
        ("unreadable", "cat/cut.jpg", ""),
        ("tiny", "cat/tiny.png", ""),
        ("huge", "cat/huge.jpg", ""),
        ("odd aspect ratio", "cat/odd.png", ""),
        ("dark", "dog/dark.png", ""),
        ("blurry", "dog/blurry.png", ""),
        ("near-uniform", "dog/uniform.png", ""),
        ("wrong suffix", "dog/png.jpg", ""),
        ("exact duplicate in a split", "cat/same.png", "cat/0.png"),
        ("near duplicate in a split", "cat/again.jpg", "cat/1.png"),
        ("near duplicate in a split", "cat/resized.png", "cat/2.png"),
        ("near duplicate across splits", "dog/moved.jpg", "cat/3.png"),
        ("exact duplicate across splits", "dog/copied.png", "cat/4.png"),
    }
    reasons = [row["detail"] for row in rows_of() if row["issue"] == "unreadable"]
    assert all(reason.startswith("cannot be read as an image (") for reason in reasons)
    [moved] = [row for row in rows_of() if row["file"] == "dog/moved.jpg"]
    assert (moved["split"], moved["class"], moved["other split"], moved["other class"]) == (
        "test",
        "dog",
        "train",
        "cat",
    )
    assert re.search(r"unreadable +│ +2 │", outcome.out)
    assert re.search(r"duplicate of another class +│ +2 │ dog/copied.png = cat", outcome.out)
    text = Path("audit/report.md").read_text()
    assert "**2** of 2 with another class than their duplicate" in text
    assert "dog/png.jpg: .jpg, but the file is PNG" in text.replace("\\", "")
    pictures = {path.stem for path in Path("audit/report_files").glob("*.png")}
    names = {
        "tiny", "huge", "odd_aspect_ratio", "dark", "blurry", "near-uniform", "wrong_suffix",
        "duplicates_across_splits", "duplicates_in_a_split",
    }  # fmt: skip
    assert pictures == names | {f"dark_{name}" for name in names}
    assert Path("audit/report.html").read_text().count("data:image/png;base64,") == len(pictures)


def test_the_audit_divides_images_into_the_splits_of_a_run(program: Program) -> None:
    for name in ("cat", "dog"):
        shutil.copytree(write_photos(Path(f"{name}s"), 20, ("train",)) / "train" / name, Path("photos", name))
    shutil.copytree("photos/cat", "photos/copies")
    options = ("--data", "ClassFolders", "--data.root", "photos", "--data.test_fraction", 0.2)
    assert program("audit", *options).status == 0
    from cifar_lit.data.folders import ClassFolders  # the run's own splits

    data = ClassFolders("photos", test_fraction=0.2)
    test = data.load("test")
    assert test is not None
    split = dict.fromkeys(test.files, "test")
    for name, images in zip(("train", "val"), data.train_and_val, strict=True):
        assert images is not None
        split |= {images.files[row]: name for row in images.rows.tolist()}
    found = rows_of()
    assert {row["other class"] for row in found} | {row["class"] for row in found} == {"cat", "copies"}
    assert {row["file"]: row["split"] for row in found}.items() <= split.items()
    assert {row["other file"]: row["other split"] for row in found}.items() <= split.items()
    assert len({row["file"] for row in found}) >= 20


def test_a_table_and_a_configuration_choose_the_images(program: Program) -> None:
    write_photos(Path("photos"))
    shutil.copy("photos/train/cat/0.png", "photos/train/cat/same.png")
    Path("photos/test/dog/0.png").rename("photos/test/dog/without_suffix")
    files = sorted(path for path in Path("photos").rglob("*") if path.is_file())
    lines = [f"{file.relative_to('photos')},{file.parent.name},{file.parts[1]}" for file in files]
    Path("photos/labels.csv").write_text("\n".join(["file,label,split", *lines]))
    Path("table.yaml").write_text(
        "model: {net: TinyNet}\n"
        "data: {class_path: ImageTable, init_args: {file: photos/labels.csv, batch_size: 4, val_fraction: 0,"
        " augment: [RandomCrop], albumentations: [{RandomCrop: {height: 8, width: 8}}]}}\n"
    )
    outcome = program("audit", "--config", "table.yaml", "--output", "one")
    assert outcome.status == 0, outcome.err
    assert issues("one") == {("exact duplicate in a split", "train/cat/same.png", "train/cat/0.png")}
    outcome = program("audit", "--config", "table.yaml", "--data", "Digits", "--output", "two")
    assert outcome.status == 0, outcome.err
    assert "1,797 images audited" in outcome.out


def test_a_network_finds_more_duplicates(fit: Callable[..., Path], program: Program) -> None:
    run = fit("digits")
    options = ("audit", "--data", "Digits", "--duplicates.min_correlation", 0.999)
    few, more = (), ("--ckpt_path", run / "checkpoints" / "last.ckpt", "--duplicates.min_similarity", 0.9)
    counts = []
    for given in (few, more):
        assert program(*options, *given).status == 0
        counts.append(len(rows_of()))
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "missing data; pass it, for example with --data"),
        (("--data", "ClassFolders", "--data.root", "none"), "none does not exist; choose another with --data.root"),
        (("--data", "ClassFolders", "--data.rot", "photos"), "data: unknown setting 'rot'; did you mean 'root'?"),
        (
            ("--data", "ClassFolder", "--data.root", "photos"),
            "unknown class 'ClassFolder'; did you mean 'ClassFolders'?",
        ),
        (("--data", "Digits", "--outptu", "a"), "unknown setting 'outptu'; did you mean 'output'?"),
        (("--data", "Digits", "--quality.dark", 1), "unknown setting 'quality.dark'"),
        (("--data", "Digits", "--duplicates.min_correlation", 0), "must be above 0 and at most 1, got 0"),
        (("--data", "Digits", "--output", "file/audit"), "file/audit cannot be written"),
        (("--config", "empty.yaml"), "empty.yaml has no section data; add one, or use --data NAME"),
        (("--data", "ClassFolders", "--data.root", "extra"), "has a class that is missing from train: bird"),
        (("--data", "ClassFolders", "--data.root", "blank"), "contains no images in folders named by class"),
    ],
)
def test_mistakes_are_reported_in_one_line(options: tuple[object, ...], message: str, program: Program) -> None:
    write_class_folders(Path("photos"))
    shutil.copytree("photos", "extra")
    Path("extra/test/bird").mkdir()
    for name in ("cat", "dog"):
        Path("blank", name).mkdir(parents=True)
    Path("file").touch()
    Path("empty.yaml").write_text("trainer: {max_epochs: 1}\n")
    outcome = program("audit", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_folder_of_unreadable_files_is_audited(program: Program) -> None:
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        Path("photos", name, "text.jpg").write_text("no image")
    outcome = audit(program, Path("photos"))
    assert [row["issue"] for row in rows_of()] == ["unreadable", "unreadable"]
    assert "the files are not divided into splits" in Path("audit/report.md").read_text()
    assert "2 images audited" in outcome.out
