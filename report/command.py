"""``main.py report``: a run as one document."""

import time
from collections.abc import Sequence
from pathlib import Path

from cifar_lit.errors import InputError
from report.comparison import names_of, write_comparison
from report.cross_validation import check_folds, out_of_sample_predictions
from report.document import Document
from report.faithfulness import write_faithfulness
from report.front_matter import front_matter
from report.label_issues import write_label_issues
from report.neighbors import write_neighbors
from report.ood import write_ood
from report.projector import write_projector
from report.results import write_accuracy, write_calibration, write_mistakes, write_summary
from report.robustness import write_robustness
from report.training import write_data, write_log, write_model, write_run, write_settings
from space.export.run_data import RunData
from space.export.run_images import images_below, other_cifar

_DEFAULTS = ("best", 0, 10, 500, 50, None, 0)  # of the options that --compare does not take


def report(
    ckpt_path: str = "best",
    output: str | None = None,
    images: str | None = None,
    folds: int = 0,
    count: int = 10,
    robustness_images: int = 500,
    faithfulness_images: int = 50,
    unknown: str | None = None,
    seed: int = 0,
    compare: Sequence[str] = (),
) -> None:
    """Write a report on a run, or compare runs.

    Args:
        ckpt_path: The checkpoint: a file, or ``best`` or ``last`` for the newest such file in runs.
        output: The folder to write; by default ``report`` in the run's folder (for a checkpoint by itself, here).
        images: Images to judge by, in ``DIR/<class>/`` or ``DIR/test/<class>/``; by default the run's own data.
        folds: Train so many networks, each on all but a part of the training images, to look for wrong labels among all
            of them; 0 looks among the images that the network was not trained on.
        count: How many misclassified images to show.
        robustness_images: How many images to corrupt; 0 leaves that out.
        faithfulness_images: How many images' heatmaps to judge; 0 leaves that out.
        unknown: A folder of images that are none of the classes, to see whether the network notices.
        seed: Of what is random in the report.
        compare: Two or more checkpoints or run folders to compare side by side, in place of a report on one run; takes
            ``output`` and ``images`` alone.
    """
    if compare:
        own_options = (ckpt_path, folds, count, robustness_images, faithfulness_images, unknown, seed)
        if own_options != _DEFAULTS:
            raise InputError("--compare takes --output and --images alone")
        write_comparison_of_runs(compare, output, images)
        return
    for name, value, least in (
        ("count", count, 1),
        ("robustness_images", robustness_images, 0),
        ("faithfulness_images", faithfulness_images, 0),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if folds < 0 or folds == 1:
        raise InputError(f"folds must be 0 or at least 2, got {folds}")
    start = time.monotonic()
    evidence = RunData.gather(ckpt_path, images)
    if evidence.at_hand.note:
        print(f"What lacks: {evidence.at_hand.note}")
    run = evidence.run
    default = run.folder / "report" if run.in_run_folder else Path(f"{run.file.stem}_report")
    others = other_cifar(evidence.data)
    if unknown:
        others["your images"] = images_below(Path(unknown), evidence.trained.recipe)
    if folds:
        check_folds(evidence)
    document = Document(Path(output) if output else default, evidence.title)
    examined, how = out_of_sample_predictions(evidence, folds)  # what would fail for other reasons has failed by now
    judged = evidence.judged(most=1000)
    write_summary(document, evidence)
    write_run(document, evidence)
    write_accuracy(document, evidence, judged, seed)
    write_mistakes(document, evidence, count)
    write_calibration(document, evidence, judged)
    write_log(document, evidence)
    write_data(document, evidence)
    write_model(document, evidence)
    write_label_issues(document, evidence.class_names, examined, how)
    write_neighbors(document, evidence, count)
    write_projector(document, evidence)
    write_robustness(document, evidence, robustness_images, seed)
    write_ood(document, evidence, others, seed)
    write_faithfulness(document, evidence, faithfulness_images, seed)
    write_settings(document, evidence)
    document.write(front_matter(evidence, judged))
    print(f"Written in {time.monotonic() - start:.0f} s: {document.folder / 'report.html'}, and report.md beside it")


def write_comparison_of_runs(runs: Sequence[str], output: str | None, images: str | None) -> None:
    """Writes runs side by side.

    Args:
        runs: At least two checkpoints, or folders of runs, whose best checkpoint is taken.
        output: The folder to write; by default ``comparison``.
        images: Images to judge by; by default those of the runs.
    """
    if len(runs) < 2:
        raise InputError("--compare takes at least two runs")
    found = [RunData.gather(_checkpoint(Path(run)), images) for run in runs]
    document = Document(Path(output or "comparison"), f"Comparison of {', '.join(names_of(found))}")
    write_comparison(document, found)
    document.write()
    print(f"Written: {document.folder / 'report.html'}, and report.md beside it")


def _checkpoint(run: Path) -> str:
    if not run.is_dir():
        return str(run)
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return str(run / "checkpoints" / name)
    raise InputError(f"{run} holds no checkpoints/best.ckpt or last.ckpt")
