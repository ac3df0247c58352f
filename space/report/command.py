"""``main.py report``: a run as one document."""

import time
from collections.abc import Sequence
from pathlib import Path

from cifar_lit.arguments import Parser
from cifar_lit.errors import InputError
from space.at_hand import images_below, other_cifar
from space.evidence import Evidence
from space.report.comparison import names_of, write_comparison
from space.report.document import Document
from space.report.faithfulness import write_faithfulness
from space.report.folds import check_folds, examined_images
from space.report.front_matter import front_matter
from space.report.label_errors import write_label_errors
from space.report.neighbours import write_neighbours
from space.report.projector import write_projector
from space.report.results import write_accuracy, write_calibration, write_mistakes, write_summary
from space.report.robustness import write_robustness
from space.report.training import write_data, write_log, write_model, write_run, write_settings
from space.report.unknown import write_unknown


def report_command(args: Sequence[str]) -> None:
    """Runs ``report`` with the arguments of the command line."""
    parser = Parser(
        prog="main.py report",
        description="Writes what a run was, how good its network is, and why: Markdown, and one page of HTML.",
        allow_abbrev=False,
    )
    parser.add_function_arguments(report, as_group=False)
    parser.add_argument("--compare", nargs="+", default=[], help="Checkpoints or folders of runs to set side by side.")
    settings, defaults = parser.parse_args(list(args)).as_dict(), parser.get_defaults()
    compare = settings.pop("compare")
    given = [name for name in settings if name not in ("output", "images") and settings[name] != defaults[name]]
    if compare and given:
        raise InputError(f"--compare takes --output and --images alone, not --{given[0]}")
    if compare:
        comparison(compare, settings["output"], settings["images"])
    else:
        report(**settings)


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
) -> None:
    """Writes a report on a run.

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
    """
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
    evidence = Evidence.gather(ckpt_path, images)
    if evidence.at_hand.note:
        print(f"What lacks: {evidence.at_hand.note}")
    run = evidence.run
    default = run.folder / "report" if run.in_run_folder else Path(f"{run.file.stem}_report")
    others = other_cifar(evidence.data)
    if unknown:
        others["your images"] = images_below(Path(unknown), evidence.as_trained.recipe)
    if folds:
        check_folds(evidence)
    document = Document(Path(output) if output else default, evidence.title)
    examined, how = examined_images(evidence, folds)  # what would fail for other reasons has failed by now
    judged = evidence.judged(most=1000)
    write_summary(document, evidence)
    write_run(document, evidence)
    write_accuracy(document, evidence, judged, seed)
    write_mistakes(document, evidence, count)
    write_calibration(document, evidence, judged)
    write_log(document, evidence)
    write_data(document, evidence)
    write_model(document, evidence)
    write_label_errors(document, evidence.class_names, examined, how)
    write_neighbours(document, evidence, count)
    write_projector(document, evidence)
    write_robustness(document, evidence, robustness_images, seed)
    write_unknown(document, evidence, others, seed)
    write_faithfulness(document, evidence, faithfulness_images, seed)
    write_settings(document, evidence)
    document.write(front_matter(evidence, judged))
    print(f"Written in {time.monotonic() - start:.0f} s: {document.folder / 'report.html'}, and report.md beside it")


def comparison(runs: Sequence[str], output: str | None, images: str | None) -> None:
    """Writes runs side by side.

    Args:
        runs: At least two checkpoints, or folders of runs, whose best checkpoint is taken.
        output: The folder to write; by default ``comparison``.
        images: Images to judge by; by default those of the runs.
    """
    if len(runs) < 2:
        raise InputError("--compare takes at least two runs")
    found = [Evidence.gather(_checkpoint(Path(run)), images) for run in runs]
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
