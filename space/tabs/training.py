"""The tab with the run's curves, each class's scores and the calibration."""

import gradio as gr
import numpy as np

from callbacks.rendering.charts import learning_curves, reliability_diagram
from space.markdown import CLASS_SCORES, class_scores, table
from space.pictures import served
from space.shown import NOTHING_JUDGED, Shown


def build_training_tab(shown: Shown) -> None:
    """Curves, tables and the reliability diagram, as far as the bundle has them."""
    facts, judged = shown.facts, shown.judged
    gr.Markdown("### Loss, accuracy and learning rate")
    if facts.history:
        with gr.Row():
            for panel in ("loss", "accuracy", "lr"):
                if curves := {name: curve for name, curve in facts.history.items() if name.endswith(panel)}:
                    _picture(learning_curves(curves))
    else:
        gr.Markdown("The run's TensorBoard files were not there when this Space was made, so there are no curves.")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.Markdown("### The run")
            gr.Markdown(table(["setting", "value"], facts.run.items()), elem_classes="facts")
        with gr.Column(min_width=320):
            if judged is None:
                gr.Markdown(NOTHING_JUDGED)
                return
            gr.Markdown(f"### Each class ({judged.images:,} {judged.split} images)")
            gr.Markdown(table(CLASS_SCORES, class_scores(shown.network.class_names, judged)), elem_classes="facts")
    gr.Markdown(
        "### Calibration\nHow often the network is right, against how sure it is (ECE is the mean gap). This page shows"
        " confidences as in the second diagram."
    )
    titles = ("as trained", f"temperature {shown.network.recipe.temperature:.2f}")
    with gr.Row():
        for title, error, (confidence, accuracy, share) in zip(
            titles, judged.calibration_errors(), judged.calibration.numpy(), strict=True
        ):
            _picture(reliability_diagram(confidence[None], accuracy[None], share[None], [f"{title}: ECE {error:.2%}"]))


def _picture(picture: np.ndarray) -> None:
    gr.Image(
        served(picture),
        show_label=False,
        format="png",
        interactive=False,
        min_width=300,
        buttons=["download", "fullscreen"],
    )
