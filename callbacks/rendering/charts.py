"""Charts drawn with matplotlib's object interface, which holds no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def class_count_chart(class_names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> np.ndarray:
    """How many images each class has, a horizontal bar for each split.

    Args:
        class_names: The C classes, drawn from top to bottom.
        counts: For each split by name, C numbers of images.

    Returns:
        uint8 (height, width, 3).
    """
    classes, splits = len(class_names), len(counts)
    figure = Figure(figsize=(5, min(60.0, max(2.5, 1.2 + 0.26 * classes))), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    places, thickness = np.arange(classes), 0.8 / max(splits, 1)
    for number, (split, values) in enumerate(counts.items()):
        bars = axes.barh(places + (number - (splits - 1) / 2) * thickness, values, thickness, label=split)
        if classes <= 20:
            axes.bar_label(bars, fontsize=8, padding=2)
    axes.set_yticks(places, class_names, fontsize=9)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("images of each class")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=splits, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
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
    figure = Figure(figsize=(4 * diagrams, 4.6), dpi=100)  # without a layout engine, which draws everything twice
    figure.subplots_adjust(left=0.15 / diagrams, right=1 - 0.05 / diagrams, bottom=0.18, top=0.85, wspace=0.18)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    middles, width = (np.arange(bins) + 0.5) / bins, 1 / bins
    all_axes = figure.subplots(1, diagrams, squeeze=False)[0]
    for axes, conf, acc, part, text in zip(all_axes, confidence, accuracy, share, titles, strict=True):
        filled = part > 0
        axes.bar(middles[filled], part[filled], width, color="#d9d9d9", label="share of the images")
        axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1, label="perfectly calibrated")
        axes.vlines(conf[filled], np.minimum(conf, acc)[filled], np.maximum(conf, acc)[filled], "#d55e00", label="gap")
        axes.plot(conf[filled], acc[filled], "o-", color="#0072b2", markersize=5, label="accuracy")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=text)
    all_axes[0].set_ylabel("accuracy")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=9, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
