"""The ``audit`` command."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from cifar_lit.data.datamodule import ImageDataModule
from cifar_lit.errors import InputError
from cifar_lit.evaluation.duplicates import DuplicateThresholds, fingerprints
from cifar_lit.evaluation.image_quality import QualityThresholds
from cifar_lit.evaluation.neighbors import features
from cifar_lit.training.checkpointing.checkpoint_files import find_checkpoint, read_classifier
from report.audit.duplicates import find_duplicates
from report.audit.images import Issue, audit_data, resized_batches
from report.audit.page import issues_of, write_page
from report.document import Document


def audit(
    data: ImageDataModule,
    output: str = "audit",
    ckpt_path: str | None = None,
    quality: QualityThresholds = QualityThresholds(),  # noqa: B008 (immutable; jsonargparse reads its fields)
    duplicates: DuplicateThresholds = DuplicateThresholds(),  # noqa: B008
) -> None:
    """Find faulty and duplicate images, and write a page and a CSV file that list them.

    Args:
        data: The images, as in ``fit``; ``--config FILE`` reads them from the section ``data`` of a configuration.
        output: The folder to write.
        ckpt_path: A checkpoint file, or ``best`` or ``last`` for the newest such file in runs, whose network's
            features are used to find more duplicates.
        quality: Limits beyond which an image is reported.
        duplicates: When two images are near-duplicates.
    """
    if not 0 < duplicates.min_correlation <= 1 or not 0 < duplicates.min_similarity <= 1:
        raise InputError(
            "duplicates.min_correlation and min_similarity must be above 0 and at most 1, got"
            f" {duplicates.min_correlation} and {duplicates.min_similarity}"
        )
    classifier = None
    if ckpt_path is not None:
        classifier = read_classifier(find_checkpoint(ckpt_path, "runs/*/*").file)
        classifier.network.to("cuda" if torch.cuda.is_available() else "cpu")
    names = data.class_names  # before the folder is created: raises if there is no data
    root = getattr(data, "root", None)
    document = Document(Path(output), f"Audit of {Path(root).resolve().name if root else type(data).__name__}")
    audited = audit_data(data, quality)
    images, pairs = audited.images, []
    if images:
        found = None
        if classifier is not None:
            found = features(classifier.network, resized_batches(images, classifier.recipe.resizing))
        pairs = find_duplicates(images, fingerprints([one.measured.small for one in images], found), duplicates)
    issues = issues_of(audited, pairs)
    write_page(document, audited, issues, names)
    _print_summary(issues)
    if audited.note:
        print(audited.note)
    print(f"{len(images) + len(audited.unreadable):,} images audited: {document.folder / 'report.html'} and report_files/issues.csv next to it")


def _print_summary(issues: Sequence[Issue]) -> None:
    """Print the number of issues of each kind with an example."""
    table = Table("issue", "images", "example")
    table.columns[1].justify = "right"
    kinds: dict[str, list[Issue]] = {}
    for issue in issues:
        kinds.setdefault(issue.kind, []).append(issue)
    if other_class := [issue for issue in issues if issue.has_other_class]:
        kinds["duplicate of another class"] = other_class
    for kind, found in kinds.items():
        table.add_row(kind, f"{len(found):,}", escape_markup(found[0].text))
    if kinds:
        Console(soft_wrap=True).print(table)
    else:
        print("No issues found.")
