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
