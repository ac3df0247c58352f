"""Charts drawn with matplotlib's object-oriented interface, which has no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from callbacks.rendering.text import drawable, escape_mathtext, font_families, truncate

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


def learning_curves(history: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Draw loss, accuracy and learning rate over the steps, one panel each.

    Args:
        history: Pairs of step and value for each curve: ``train/loss``, ``val/loss``, ``train/accuracy``,
            ``val/accuracy``, ``lr``; missing curves are omitted.

    Returns:
        uint8 (height, width, 3).
    """
    panels: dict[str, dict[str, Sequence[tuple[float, float]]]] = {"loss": {}, "accuracy": {}, "learning rate": {}}
    for name, curve in history.items():
        split, _, metric = name.rpartition("/")
        if curve:
            panels["learning rate" if metric == "lr" else metric][split or "learning rate"] = curve
    return curves_chart({title: lines for title, lines in panels.items() if lines})


def curves_chart(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> np.ndarray:
    """Draw curves over the steps, with one panel per metric and one line per run or split.

    Args:
        panels: Pairs of step and value, by metric and by name of the line; at least one of each.

    Returns:
        uint8 (height, width, 3).
    """
    figure = Figure(figsize=(4.2 * len(panels), 4.0), dpi=100, layout="constrained")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    handles: dict[str, Artist] = {}
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (metric, lines) in zip(all_axes, panels.items(), strict=True):
        for name, curve in lines.items():
            steps, values = zip(*curve, strict=True)
            color = COLORS[names.index(name) % len(COLORS)]
            marker = "o" if len(steps) <= 60 else ""
            [handles[name]] = axes.plot(steps, values, color=color, marker=marker, linewidth=1.5, markersize=3)
        axes.set(title=metric, xlabel="step")
        heights = [value for curve in lines.values() for _, value in curve]
        if metric.endswith("loss") and 0 < 30 * min(heights) < max(heights):
            axes.set_yscale("log")
        elif metric.endswith("loss"):
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    labels = [escape_mathtext(name).lstrip("_") or "run" for name in handles]  # matplotlib hides a leading "_"
    if len(handles) > 1:
        figure.legend(handles.values(), labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return to_pixels(figure)


def reliability_diagram(
    confidence: np.ndarray,
    accuracy: np.ndarray,
    share: np.ndarray,
    titles: Sequence[str],
    title: str = "",
) -> np.ndarray:
    """Draw reliability diagrams side by side: accuracy over confidence.

    Args:
        confidence: float (D, B), the mean confidence in each of B equal-width bins, for D diagrams.
        accuracy: float (D, B), the accuracy in each bin.
        share: float (D, B), the fraction of images in each bin; empty bins are omitted.
        titles: D titles of the diagrams.
        title: Title of the figure.

    Returns:
        uint8 (height, width, 3).

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    diagrams, bins = accuracy.shape
    columns = 4 if diagrams > 1 else 2  # of the legend
    figure = Figure(figsize=(4 * diagrams, 4.6), dpi=100)  # a layout engine would draw everything twice
    figure.subplots_adjust(
        left=0.15 / diagrams, right=1 - 0.05 / diagrams, bottom=0.14 + 0.16 / columns, top=0.85, wspace=0.18
    )
    figure.suptitle(title, fontsize=12)
    centers, width = (np.arange(bins) + 0.5) / bins, 1 / bins
    all_axes = figure.subplots(1, diagrams, squeeze=False)[0]
    for axes, conf, acc, fraction, text in zip(all_axes, confidence, accuracy, share, titles, strict=True):
        filled = fraction > 0
        axes.bar(centers[filled], fraction[filled], width, color="#d9d9d9", label="fraction of images")
        axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1, label="perfectly calibrated")
        axes.vlines(conf[filled], np.minimum(conf, acc)[filled], np.maximum(conf, acc)[filled], "#d55e00", label="gap")
        axes.plot(conf[filled], acc[filled], "o-", color="#0072b2", markersize=5, label="accuracy", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=text)
    all_axes[0].set_ylabel("accuracy")
    figure.legend(
        *all_axes[0].get_legend_handles_labels(), loc="lower center", ncols=columns, fontsize=9, frameon=False
    )
    return to_pixels(figure)


def lines_chart(
    curves: Mapping[str, Sequence[float]],
    x: Sequence[float],
    labels: tuple[str, str],
    limits: tuple[float, float],
    columns: int,
) -> np.ndarray:
    """Draw one small panel per curve, all with the same axes.

    Args:
        curves: P values for each panel, by its title.
        x: P positions on the horizontal axis.
        labels: Labels of the horizontal and the vertical axis.
        limits: Limits of the vertical axis.
        columns: Number of panels per row.

    Returns:
        uint8 (height, width, 3).
    """
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.0 * max(rows, 1) + 0.4), dpi=150, layout="constrained")
    panels = figure.subplots(max(rows, 1), columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, (title, values) in zip(panels, curves.items(), strict=False):
        axes.plot(x, values, "o-", color="#0072b2", markersize=3, linewidth=1.5, clip_on=False)
        axes.set_title(escape_mathtext(title), fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels[0].set_ylim(*limits)
    figure.supxlabel(labels[0], fontsize=10)
    figure.supylabel(labels[1], fontsize=10)
    return to_pixels(figure)


def to_pixels(figure: Figure) -> np.ndarray:
    """Draw a figure, uint8 (height, width, 3)."""
    for text in figure.findobj(Text):
        text.set_fontfamily(font_families())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
