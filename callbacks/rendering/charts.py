"""Charts drawn with matplotlib's object interface, which holds no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.rendering.text import escape_mathtext


def class_count_chart(class_names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """How many images each class has, a horizontal bar for each split.

    Args:
        class_names: The C classes, drawn from top to bottom.
        counts: For each split by name, C numbers of images.

    Returns:
        uint8 (height, width, 3).
    """
    classes, splits = len(class_names), len(counts)
    height = min(60.0, max(2.5, 1.2 + (0.14 + 0.12 * splits) * classes))
    figure = Figure(figsize=(5, height), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    places, thickness = np.arange(classes), 0.8 / max(splits, 1)
    for number, (split, values) in enumerate(counts.items()):
        bars = axes.barh(places + (number - (splits - 1) / 2) * thickness, values, thickness, label=split)
        if classes <= 20:
            axes.bar_label(bars, fontsize=8, padding=2)
    axes.set_yticks(places, list(map(escape_mathtext, class_names)), fontsize=9)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("images of each class")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=splits, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def learning_curves(history: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Loss, accuracy and learning rate against the step, a panel for each.

    Args:
        history: Pairs of step and value by the name of the curve: ``train/loss``, ``val/loss``, ``train/accuracy``,
            ``val/accuracy``, ``lr``; those that lack are left out.

    Returns:
        uint8 (height, width, 3).
    """
    panels = {"loss": "loss", "accuracy": "accuracy", "lr": "learning rate"}
    shown = [panel for panel in panels if any(name.rpartition("/")[2] == panel for name in history)]
    figure = Figure(figsize=(4.2 * max(len(shown), 1), 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    colors = {"train": "#0072b2", "val": "#d55e00"}  # Okabe & Ito's, which the colour-blind tell apart
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0] if shown else [], shown, strict=True):
        for name, curve in history.items():
            split, _, kind = name.rpartition("/")
            if kind == panel and curve:
                steps, values = zip(*curve, strict=True)
                marker = "o" if len(curve) <= 60 else ""
                color = colors.get(split, "#444444")
                axes.plot(steps, values, color=color, label=split, marker=marker, markersize=3, linewidth=1.5)
        axes.set(title=panels[panel], xlabel="step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        losses = [value for name, curve in history.items() if name.endswith("loss") for _, value in curve if value > 0]
        if panel == "loss" and losses and max(losses) > 30 * min(losses):
            axes.set_yscale("log")
        elif panel == "loss":
            axes.set_ylim(bottom=0)
        if panel != "lr":
            axes.legend(frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def reliability_diagram(
    confidence: np.ndarray,
    accuracy: np.ndarray,
    share: np.ndarray,
    titles: Sequence[str],
    title: str = "",
) -> np.ndarray:
    """Reliability diagrams side by side: how often the network is right, against how sure it is.

    Args:
        confidence: float (D, B), for each of D diagrams the mean confidence of the images in each of B equal bins.
        accuracy: float (D, B), the share of them that is classified rightly.
        share: float (D, B), the share of all images that is in the bin; empty bins are left out.
        titles: D texts above the diagrams.
        title: Above them all.

    Returns:
        uint8 (height, width, 3).

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    diagrams, bins = accuracy.shape
    columns = 4 if diagrams > 1 else 2  # of the legend
    figure = Figure(figsize=(4 * diagrams, 4.6), dpi=100)  # without a layout engine, which draws everything twice
    figure.subplots_adjust(
        left=0.15 / diagrams, right=1 - 0.05 / diagrams, bottom=0.14 + 0.16 / columns, top=0.85, wspace=0.18
    )
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    middles, width = (np.arange(bins) + 0.5) / bins, 1 / bins
    all_axes = figure.subplots(1, diagrams, squeeze=False)[0]
    for axes, conf, acc, part, text in zip(all_axes, confidence, accuracy, share, titles, strict=True):
        filled = part > 0
        axes.bar(middles[filled], part[filled], width, color="#d9d9d9", label="share of the images")
        axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1, label="perfectly calibrated")
        axes.vlines(conf[filled], np.minimum(conf, acc)[filled], np.maximum(conf, acc)[filled], "#d55e00", label="gap")
        axes.plot(conf[filled], acc[filled], "o-", color="#0072b2", markersize=5, label="accuracy", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=text)
    all_axes[0].set_ylabel("accuracy")
    figure.legend(
        *all_axes[0].get_legend_handles_labels(), loc="lower center", ncols=columns, fontsize=9, frameon=False
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def lines_chart(
    curves: Mapping[str, Sequence[float]],
    places: Sequence[float],
    labels: tuple[str, str],
    limits: tuple[float, float],
    columns: int,
) -> np.ndarray:
    """A small panel for each curve, all with the same axes.

    Args:
        curves: For each panel by its title, P values.
        places: Where on the horizontal axis, P numbers.
        labels: Of the horizontal and the vertical axis.
        limits: Of the vertical axis.
        columns: Panels in a row.

    Returns:
        uint8 (height, width, 3).
    """
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.0 * max(rows, 1) + 0.4), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(max(rows, 1), columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, (title, values) in zip(panels, curves.items(), strict=False):
        axes.plot(places, values, "o-", color="#0072b2", markersize=3, linewidth=1.5, clip_on=False)
        axes.set_title(escape_mathtext(title), fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels[0].set_ylim(*limits)
    figure.supxlabel(labels[0], fontsize=10)
    figure.supylabel(labels[1], fontsize=10)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def compared_curves(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> np.ndarray:
    """Curves of several runs, a panel for each kind, a line for each run.

    Args:
        curves: For each kind by its name, pairs of step and value by the run's name.

    Returns:
        uint8 (height, width, 3).
    """
    figure = Figure(figsize=(4.2 * max(len(curves), 1), 4.0), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for of_runs in curves.values() for name in of_runs))
    colors = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe & Ito's
    for axes, (kind, of_runs) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, curve in of_runs.items():
            steps, values = zip(*curve, strict=True)
            color = colors[names.index(name) % len(colors)]
            axes.plot(
                steps,
                values,
                "o-" if len(steps) < 40 else "-",
                color=color,
                label=escape_mathtext(name).lstrip("_") or "run",  # with "_" first, matplotlib leaves it out
                linewidth=1.5,
                markersize=3,
            )
        axes.set(title=kind.replace("/", " "), xlabel="step")
        heights = [value for curve in of_runs.values() for _, value in curve]
        if kind.endswith("loss") and 0 < 30 * min(heights) < max(heights):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    told = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(told.values(), told.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
