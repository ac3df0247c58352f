"""The tab with the run's curves, per-class scores and calibration."""

from functools import cache
from typing import Any

import gradio as gr
import numpy as np

from callbacks.rendering.markdown import class_scores_table, table
from cifar_lit.evaluation.class_scores import class_scores
from space.app.bundle_metadata import NO_EVALUATION
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle

_TABLE = ["document", "metadata"]  # CSS classes


def build_training_tab(loaded: LoadedBundle, tab: gr.Tab) -> None:
    """Add the curves, tables and reliability diagrams that the bundle contains.

    The charts are drawn when the tab is first opened, since matplotlib takes time to start.
    """
    metadata, evaluation = loaded.metadata, loaded.evaluation
    panels = {name.rpartition("/")[2] for name, curve in metadata.history.items() if curve}
    gr.Markdown("### Loss, accuracy and learning rate")
    with gr.Row():
        charts = [_chart() for _ in panels]
    if not panels:
        gr.Markdown("No curves: the run had no TensorBoard files of this version when this Space was exported.")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.Markdown("### The run")
            gr.Markdown(table(["setting", "value"], metadata.run.items()), elem_classes=_TABLE)
        with gr.Column(min_width=320):
            if evaluation is None:
                gr.Markdown(NO_EVALUATION)
            else:
                gr.Markdown(f"### Each class ({evaluation.images:,} {evaluation.split} images)")
                scores = class_scores_table(class_scores(evaluation.counts), loaded.network.class_names)
                gr.Markdown(scores, elem_classes=_TABLE)
    if evaluation is not None:
        gr.Markdown(
            "### Calibration\nAccuracy against confidence; the expected calibration error (ECE) is the mean gap. This"
            " page shows the confidences of the second diagram."
        )
        with gr.Row():
            charts += [_chart(), _chart()]

    @cache
    def draw() -> list[np.ndarray]:
        # imports matplotlib's figures, which takes 0.5 s
        from callbacks.rendering.charts import calibration_diagrams, learning_curves

        pictures = list(learning_curves(metadata.history).values())
        if evaluation is not None:
            calibration, errors = evaluation.calibration.numpy(), evaluation.calibration_errors()
            pictures += calibration_diagrams(calibration, errors, loaded.network.recipe.temperature)
        return pictures

    def files() -> Any:
        paths = [cached_image(chart) for chart in draw()]
        return paths[0] if len(paths) == 1 else paths

    if charts:
        tab.select(files, None, charts, api_visibility="private")


def _chart() -> gr.Image:
    return gr.Image(
        show_label=False,
        format="png",
        interactive=False,
        min_width=300,
        buttons=["download", "fullscreen"],
        elem_classes="chart",
    )
