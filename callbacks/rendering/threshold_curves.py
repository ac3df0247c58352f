"""ROC and precision-recall curves, and a table of thresholds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from callbacks.rendering.charts import COLORS, to_pixels
from callbacks.rendering.fonts_and_colors import drawable, truncate
from callbacks.rendering.markdown import table

# Of one class: false positive rate, recall and precision, float (T,) each; the area under the ROC curve, the average
# precision, the threshold with the highest F1 score, and precision and recall at it, NaN where undefined
Curves = tuple[Any, Any, Any, float, float, float, float, float]


def threshold_curve_charts(class_names: Sequence[str], curves: Sequence[Curves], title: str) -> dict[str, np.ndarray]:
    """Return the charts of ROC and precision-recall curves, uint8 (height, width, 3), by their names.

    Args:
        class_names: C names.
        curves: The curves of each class.
        title: Second line of their titles.
    """
    fprs, recalls, precisions, areas, averages, *_ = zip(*curves, strict=True)
    roc, precision = list(zip(fprs, recalls, strict=True)), list(zip(recalls, precisions, strict=True))
    labels = ("false positive rate", "recall (true positive rate)"), ("recall", "precision")
    return {
        "ROC": class_curves_chart(class_names, roc, areas, labels[0], f"ROC\n{title}"),
        "precision-recall": class_curves_chart(
            class_names, precision, averages, labels[1], f"precision-recall\n{title}"
        ),
    }


def class_curves_chart(
    class_names: Sequence[str],
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    areas: Sequence[float],
    labels: tuple[str, str],
    title: str,
) -> np.ndarray:
    """Draw a curve of each class in the unit square, such as ROC curves; of more than ten, those of smallest area.

    Args:
        class_names: C names.
        curves: For each class, the horizontal and vertical positions, float (T,).
        areas: For each class, the area under its curve, for the legend; NaN to omit the class.
        labels: Labels of the horizontal and the vertical axis.
        title: Title of the figure.

    Returns:
        uint8 (height, width, 3).
    """
    shown = [label for label in np.argsort(areas, kind="stable") if not math.isnan(areas[label])][: len(COLORS)]
    figure = Figure(figsize=(4.2, 4.6 + 0.11 * len(shown)), dpi=100, layout="constrained")
    axes = figure.subplots()
    for label, color in zip(sorted(shown), COLORS, strict=False):
        name = truncate(*drawable(" ".join(class_names[label].split()), 12), 130).replace("$", r"\$")
        axes.plot(*curves[label], color=color, linewidth=1.5, label=f"{areas[label]:.3f} {name}", clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=labels[0], ylabel=labels[1], aspect="equal")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return to_pixels(figure)


def thresholds_table(curves: Sequence[Curves], class_names: Sequence[str]) -> str:
    """Return a table of each class's areas under its curves, and of the threshold with the highest F1 score.

    Args:
        curves: The curves of each class.
        class_names: The names of the classes.

    >>> cat, dog = (0.9912, 0.875, 0.25, 0.9, 0.75), (math.nan, math.nan, 1, 1, 0)
    >>> print(thresholds_table([(0, 0, 0, *cat), (0, 0, 0, *dog)], ["cat", "dog"]))
    | class | ROC AUC | average precision | best threshold | precision | recall |
    | --- | ---: | ---: | ---: | ---: | ---: |
    | cat | 0.991 | 0.875 | 0.250 | 0.900 | 0.750 |
    | dog |  |  |  |  |  |
    """
    rows = [
        [name, *("" if math.isnan(values[0]) else f"{value:.3f}" for value in values)]
        for name, (_, _, _, *values) in zip(class_names, curves, strict=True)
    ]
    return table(["class", "ROC AUC", "average precision", "best threshold", "precision", "recall"], rows)
