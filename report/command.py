"""The ``report`` command: write a report on a run, or compare runs."""

import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_lit.errors import InputError
from report.comparison import names_of, write_comparison
from report.cross_validation import out_of_sample_predictions
from report.document import Document
from report.duplicates import write_duplicates
from report.faithfulness import write_faithfulness
from report.hub_metadata import front_matter
from report.human_votes import read_votes, write_votes
from report.label_issues import write_label_issues
from report.neighbors import write_neighbors
from report.ood import check_unknown_classes, write_ood
from report.projector import write_projector
from report.results import write_accuracy, write_calibration, write_mistakes, write_summary
from report.retraining import check_retraining
from report.robustness import write_robustness
from report.training import write_data, write_log, write_model, write_run, write_settings
from space.export.run_data import RunData
from space.export.run_datasets import images_below, other_cifar

_PLACEHOLDERS = {"images": "DIR", "unknown": "DIR", "votes": "FILE"}  # for paths of this machine


def report(
    ckpt_path: str = "best",
    output: str | None = None,
    images: str | None = None,
    folds: int = 0,
    fold_repeats: int = 1,
    count: int = 10,
    label_issues: int = 100,
    robustness_images: int = 500,
    faithfulness_images: int = 50,
    unknown: str | None = None,
    unknown_class: Sequence[str] = (),
    votes: str | None = None,
    seed: int = 0,
    compare: Sequence[str] = (),
) -> None:
    """Write a report on a run, or compare runs.

    Args:
        ckpt_path: A checkpoint file, or ``best`` or ``last`` for the newest such file in runs.
        output: The folder to write; by default ``report`` in the run's folder, or in the current folder for a
            checkpoint outside its run's folder.
        images: Images to evaluate on, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
        folds: Number of cross-validation folds to train, to find label issues in all training images; 0
            checks only images that the network was not trained on.
        fold_repeats: Number of cross-validations, each with different folds, whose predictions are averaged.
        count: Number of misclassified images to show.
        label_issues: Number of labels to list, the most suspicious first.
        robustness_images: Number of images to corrupt; 0 to skip.
        faithfulness_images: Number of images whose heatmaps are evaluated; 0 to skip.
        unknown: A folder of images that belong to none of the classes, to test whether the network detects them.
        unknown_class: Classes to test this with: another network is trained without each of them.
        votes: People's votes on each image, as counts per class: a NumPy file (CIFAR-10H's counts) or a CSV file; by
            default the run's ``data.votes``.
        seed: Seed of all random choices in the report.
        compare: Two or more checkpoints or run folders to compare instead; can be combined with ``output`` and
            ``images`` only.
    """
    changed = _changed(locals())
    if compare:
        if not changed.keys() <= {"compare", "output", "images"}:
            raise InputError("--compare can be combined with --output and --images only")
        write_comparison_of_runs(compare, output, images)
        return
    for name, value, minimum in (
        ("count", count, 1),
        ("fold_repeats", fold_repeats, 1),
        ("label_issues", label_issues, 1),
        ("robustness_images", robustness_images, 0),
        ("faithfulness_images", faithfulness_images, 0),
        ("seed", seed, 0),
    ):
        if value < minimum:
            raise InputError(f"{name} must be at least {minimum}, got {value}")
    if folds < 0 or folds == 1:
        raise InputError(f"folds must be 0 or at least 2, got {folds}")
    if fold_repeats > 1 and not folds:
        raise InputError("fold_repeats needs folds, such as --folds 5")
    start = time.monotonic()
    run = RunData.load(ckpt_path, images)
    if run.note:
        print(f"Missing: {run.note}")
    checkpoint_run = run.checkpoint_run
    default = checkpoint_run.folder / "report" if checkpoint_run.in_run_folder else f"{checkpoint_run.file.stem}_report"
    similar = {}
    if unknown:
        similar[f"folder {Path(unknown).resolve().name}"] = images_below(Path(unknown), run.classifier.recipe)
    if folds:
        check_retraining(run, "--folds")
    if unknown_class:
        check_retraining(run, "--unknown_class")
        check_unknown_classes(run, unknown_class)
    if votes:
        read_votes(Path(votes), run.splits, run.class_names)  # so that a mistake is reported at once
    elif not images:
        votes = run.config.get("data", {}).get("init_args", {}).get("votes")
    document = Document(Path(output or default), run.title)
    predictions, how = out_of_sample_predictions(run, folds, fold_repeats)  # slow: only after all checks
    write_summary(document, run)
    write_run(document, run, options_to_show(changed))
    write_accuracy(document, run, seed)
    write_mistakes(document, run, count)
    write_calibration(document, run)
    write_log(document, run)
    write_data(document, run)
    write_model(document, run)
    write_label_issues(document, run.class_names, predictions, how, label_issues)
    if votes:
        write_votes(document, run, Path(votes))
    write_duplicates(document, run)
    write_neighbors(document, run, count)
    write_projector(document, run)
    write_robustness(document, run, robustness_images, seed)
    write_ood(document, run, other_cifar(run.data), similar, unknown_class, seed)
    write_faithfulness(document, run, faithfulness_images, seed)
    write_settings(document, run)
    document.write(front_matter(run))
    print(f"Written in {time.monotonic() - start:.0f} s: report.html and report.md in {document.folder}")


def _changed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of ``report`` that differ from the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(report).parameters.items()}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    return {name: given[name] for name, default in defaults.items() if given[name] != default}


def options_to_show(changed: Mapping[str, Any]) -> list[str]:
    """Return the options of a report, without the checkpoint and paths of this machine.

    >>> options_to_show({"folds": 2, "votes": "/home/me/votes.csv", "unknown_class": ("cat", "dog")})
    ['--folds', '2', '--votes', 'FILE', '--unknown_class', 'cat', 'dog']
    """
    words = []
    for name, value in changed.items():
        if name not in ("ckpt_path", "output"):
            values = value if isinstance(value, tuple) else (_PLACEHOLDERS.get(name, value),)
            words += [f"--{name}", *map(str, values)]
    return words


def write_comparison_of_runs(runs: Sequence[str], output: str | None, images: str | None) -> None:
    """Write a comparison of runs.

    Args:
        runs: At least two checkpoints, or run folders, whose best checkpoint is used.
        output: The folder to write; by default ``comparison``.
        images: Images to evaluate on; by default those of the runs.
    """
    if len(runs) < 2:
        raise InputError(f"--compare needs at least two runs, got {len(runs)}")
    loaded = [RunData.load(_checkpoint(Path(run)), images) for run in runs]
    document = Document(Path(output or "comparison"), f"Comparison of {', '.join(names_of(loaded))}")
    write_comparison(document, loaded)
    document.write()
    print(f"Written: report.html and report.md in {document.folder}")


def _checkpoint(run: Path) -> str:
    if not run.is_dir():
        return str(run)
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return str(run / "checkpoints" / name)
    raise InputError(f"{run} contains no checkpoints/best.ckpt or last.ckpt")
