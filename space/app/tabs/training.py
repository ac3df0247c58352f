"""The tab with the run's curves, each class's scores and the calibration."""

from functools import cache
from typing import Any

import gradio as gr
import numpy as np

from callbacks.rendering.markdown import class_scores_table, table
from cifar_lit.evaluation.confusion import class_scores
from space.app.image_cache import cached_image
from space.app.loaded_bundle import NOTHING_JUDGED, LoadedBundle

_PANELS = ("loss", "accuracy", "lr")


def build_training_tab(shown: LoadedBundle, tab: gr.Tab) -> None:
    """Curves, tables and the reliability diagrams, as far as the bundle has them.

    The pictures are drawn when the tab is first opened, since matplotlib takes its time at the start.
    """
    facts, judged = shown.facts, shown.judged
    panels = [panel for panel in _PANELS if any(name.endswith(panel) for name in facts.history)]
    gr.Markdown("### Loss, accuracy and learning rate")
    with gr.Row():
        pictures = [_picture() for _ in panels]
    if not panels:
        gr.Markdown("The run's TensorBoard files were not there when this Space was made, so there are no curves.")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.Markdown("### The run")
            gr.Markdown(table(["setting", "value"], facts.run.items()), elem_classes="facts")
        with gr.Column(min_width=320):
            if judged is None:
                gr.Markdown(NOTHING_JUDGED)
            else:
                gr.Markdown(f"### Each class ({judged.images:,} {judged.split} images)")
                gr.Markdown(
                    class_scores_table(class_scores(judged.counts), shown.network.class_names), elem_classes="facts"
                )
    if judged is not None:
        gr.Markdown(
            "### Calibration\nHow often the network is right, against how sure it is (ECE is the mean gap). This page"
            " shows confidences as in the second diagram."
        )
        with gr.Row():
            pictures += [_picture(), _picture()]

    @cache
    def drawn() -> list[np.ndarray]:
        from callbacks.rendering.charts import learning_curves  # with matplotlib's figures, half a second to import

        curves = [{name: curve for name, curve in facts.history.items() if name.endswith(panel)} for panel in panels]
        return [*map(learning_curves, curves), *_diagrams(shown)]

    def files() -> Any:
        found = [cached_image(picture) for picture in drawn()]
        return found[0] if len(found) == 1 else found

    if pictures:
        tab.select(files, None, pictures, api_visibility="private")


def _diagrams(shown: LoadedBundle) -> list[np.ndarray]:
    """Reliability diagrams before and after temperature scaling; none where nothing was judged."""
    from callbacks.rendering.charts import reliability_diagram

    if shown.judged is None:
        return []
    titles = ("as trained", f"temperature {shown.network.recipe.temperature:.2f}")
    errors, parts = shown.judged.calibration_errors(), shown.judged.calibration.numpy()
    return [
        reliability_diagram(confidence[None], accuracy[None], share[None], [f"{title}: ECE {error:.2%}"])
        for title, error, (confidence, accuracy, share) in zip(titles, errors, parts, strict=True)
    ]


def _picture() -> gr.Image:
    return gr.Image(
        show_label=False, format="png", interactive=False, min_width=300, buttons=["download", "fullscreen"]
    )
