"""Charts drawn with matplotlib's object-oriented interface, which has no global state."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from callbacks.rendering.fonts_and_colors import drawable, escape_mathtext, font_families, truncate

# Okabe & Ito's color-blind safe palette, two of Paul Tol's, and gray
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#882255", "#999933", "#aaaaaa")


def class_count_chart(class_names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Draw the number of images of each class, with one horizontal bar per split.

    Args:
        class_names: C names, drawn from top to bottom.
        counts: C numbers of images for each split.

    Returns:
        uint8 (height, width, 3).
    """
    classes, splits = len(class_names), len(counts)
    height = min(60.0, max(2.5, 1.2 + (0.14 + 0.15 * splits) * classes))
    figure = Figure(figsize=(4, height), dpi=100, layout="constrained")
    axes = figure.subplots()
    positions, thickness = np.arange(classes), 0.8 / max(splits, 1)
    for number, (split, values) in enumerate(counts.items()):
        bars = axes.barh(positions + (number - (splits - 1) / 2) * thickness, values, thickness, label=split)
        if classes <= 20:
            axes.bar_label(bars, fontsize=10, padding=2)
    labels = [truncate(*drawable(" ".join(name.split()), 15), 150).replace("$", r"\$") for name in class_names]
    axes.set_yticks(positions, labels, fontsize=11)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("number of images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=splits, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return to_pixels(figure)


def learning_curves(history: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, np.ndarray]:
    """Draw loss, accuracy and learning rate over the steps.

    Args:
        history: Pairs of step and value for each curve: ``train/loss``, ``val/loss``, ``train/accuracy``,
            ``val/accuracy``, ``lr``; missing curves are omitted.

    Returns:
        A chart, uint8 (height, width, 3), by title.
    """
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]] = {"loss": {}, "accuracy": {}, "learning rate": {}}
    for name, curve in sorted(history.items()):
        split, _, metric = name.rpartition("/")
        if curve:
            panels["learning rate" if metric == "lr" else metric][split or "learning rate"] = curve
    return {title: curves_chart(title, lines) for title, lines in panels.items() if lines}


def curves_chart(
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str = "step",
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] = (4.2, 4.0),
) -> np.ndarray:
    """Draw curves, with a legend unless the title names the only one.

    Args:
        title: Title of the chart; the axis of a loss starts at 0, or is logarithmic if the values differ by much.
        curves: Pairs of position and value, by the name of the curve. A curve without points is left out, but the
            others keep their colors.
        xlabel: Label of the horizontal axis.
        limits: Limits of the vertical axis.
        size: Width and height, in units of 100 pixels.

    Returns:
        uint8 (height, width, 3).
    """
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel)
    if limits is not None:
        axes.set_ylim(limits)
    shown = []
    for color, (name, curve) in zip(cycle(COLORS), curves.items(), strict=False):
        if curve:
            marker = "o" if len(curve) <= 60 else ""
            axes.plot(*zip(*curve, strict=True), color=color, marker=marker, linewidth=1.5, markersize=3, clip_on=False)
            shown.append(escape_mathtext(name).lstrip("_") or "run")  # matplotlib hides a leading "_"
    heights = [value for curve in curves.values() for _, value in curve]
    if title.endswith("loss") and 0 < 30 * min(heights) < max(heights):
        axes.set_yscale("log")
    elif title.endswith("loss"):
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if list(curves) != [title]:
        figure.legend(axes.lines, shown, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return to_pixels(figure)


def reliability_diagram(calibration: np.ndarray, title: str, subtitle: str = "") -> np.ndarray:
    """Draw a reliability diagram: accuracy over confidence.

    Args:
        calibration: float (3, B): mean confidence, accuracy, and share of the images in each of B equal-width bins;
            empty bins are omitted.
        title: Title of the diagram.
        subtitle: A line above it.

    Returns:
        uint8 (height, width, 3).

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    figure = Figure(figsize=(4, 4.6), dpi=100)  # a layout engine would draw everything twice
    figure.subplots_adjust(left=0.15, right=0.95, bottom=0.22, top=0.85 if subtitle else 0.93)
    figure.suptitle(subtitle, fontsize=12)
    axes, bins = figure.subplots(), calibration.shape[1]
    filled = calibration[2] > 0
    conf, acc, share = calibration[:, filled]
    axes.bar(((np.arange(bins) + 0.5) / bins)[filled], share, 1 / bins, color="#d9d9d9", label="fraction of images")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.vlines(conf, np.minimum(conf, acc), np.maximum(conf, acc), "#d55e00", label="gap")
    axes.plot(conf, acc, "o-", color="#0072b2", markersize=5, label="accuracy", clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=title)
    figure.legend(loc="lower center", ncols=2, fontsize=9, frameon=False)
    return to_pixels(figure)


def calibration_diagrams(
    calibration: np.ndarray, errors: Sequence[float], temperature: float, subtitle: str = ""
) -> list[np.ndarray]:
    """Draw reliability diagrams without and with temperature scaling.

    Args:
        calibration: float (2, 3, B); see ``reliability_diagram``.
        errors: The two expected calibration errors (ECE).
        temperature: The temperature.
        subtitle: A line above each.
    """
    titles = ("as trained", f"temperature {temperature:.2f}")
    return [
        reliability_diagram(bins, f"{title}: ECE {error:.2%}", subtitle)
        for title, error, bins in zip(titles, errors, calibration, strict=True)
    ]


def to_pixels(figure: Figure) -> np.ndarray:
    """Draw a figure, uint8 (height, width, 3)."""
    for text in figure.findobj(Text):
        text.set_fontfamily(font_families())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
