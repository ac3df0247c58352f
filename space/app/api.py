"""The page's named API endpoints."""

from functools import partial
from typing import Any

import gradio as gr

from space.app.bundle_metadata import NO_EVALUATION
from space.app.image_cache import cached_image
from space.app.loaded_bundle import LoadedBundle
from space.app.service import ExplainOptions, UploadResult, classify, explain
from space.app.tabs.evaluated_images import ANY
from space.app.tabs.misclassified import mistakes
from space.app.validation import MAX_CLASSES, MAX_IMAGES, check_choice, check_int, check_number

_number = partial(gr.Number, visible=False)
_text = partial(gr.Textbox, visible=False)


class Api:
    """Adds ``/classify``, ``/explain``, ``/misclassified`` and ``/confusion_matrix`` to the enclosing ``gr.Blocks``.

    The inputs belong to hidden components, so that gradio accepts only uploaded files.
    """

    def __init__(self, loaded: LoadedBundle) -> None:
        self._loaded, self._network = loaded, loaded.network
        files = gr.File(file_count="multiple", visible=False, label="images")
        answers = gr.JSON(visible=False, label="answers")
        pictures = gr.Gallery(visible=False, format="png", label="pictures")
        _add(self.classify, [files, _number(5, label="top_k")], answers)
        heatmap = [
            _text(self._network.layer, label="layer"),
            _text(self._network.method, label="method"),
            _number(0.5, label="opacity"),
        ]
        _add(self.explain, [files, _text("", label="class_name"), *heatmap], pictures)
        choice = [_number(10, label="count"), _text("most confident first", label="order"), _number(0, label="seed")]
        choice += [_text(ANY, label="true_class"), _text(ANY, label="predicted_class")]
        _add(self.misclassified, choice, [answers, pictures])
        _add(self.confusion_matrix, [], answers)

    def classify(self, images: list[str] | None, top_k: Any = 5) -> list[dict[str, Any]]:
        """Classify up to 10 images.

        Args:
            images: The files.
            top_k: Number of classes to return for each image, from 1 to 10; all if there are fewer.

        Returns:
            For each image that can be read, its number from 1, its most likely classes with calibrated confidences, the
            logits of all classes, and whether it may be none of the classes; for each other image, an error.
        """
        top_k = check_int("top_k", top_k, 1, MAX_CLASSES)
        result = self._classify(images)
        answers: list[dict[str, Any]] = [
            {
                "image": image.number,
                "classes": [
                    {"class": name, "confidence": prob}
                    for name, prob in image.top_classes(self._network.class_names, top_k)
                ],
                "possibly_none_of_the_classes": image.is_ood,
                "logits": image.logits.tolist(),
            }
            for image in result.images
        ]
        return answers + [{"error": error} for error in result.errors]

    def explain(
        self,
        images: list[str] | None,
        class_name: Any = "",
        layer: Any = "",
        method: Any = "gradcam",
        opacity: Any = 0.5,
    ) -> list[tuple[str, str]]:
        """Show the evidence for a class in up to 10 images.

        Args:
            images: The files; those that cannot be read are skipped.
            class_name: The class; empty for the predicted class of each image.
            layer: The feature map, by name; by default that with the most faithful heatmaps.
            method: gradcam, gradcam++, hirescam, layercam, or for a vision transformer attention_rollout.
            opacity: Opacity of the heatmap: 0 shows the image, 1 the heatmap.

        Returns:
            For each image, the network's input overlaid with the heatmap, and the class.
        """
        names = self._network.class_names
        layer = check_choice("layer", layer, self._network.layers)
        method = check_choice("method", method, list(self._network.methods.values()))
        options = ExplainOptions(MAX_IMAGES, layer, method)
        opacity = check_number("opacity", opacity, 0, 1)
        if class_name == "":
            result = self._classify(images, options)
        else:
            label = names.index(check_choice("class_name", class_name, names))
            result = explain(self._network, self._classify(images).select(label), options)
        overlays = [image.overlays(opacity)[-1] for image in result.images]
        return [(cached_image(overlay), names[label]) for label, overlay in overlays]

    def misclassified(
        self,
        count: Any = 10,
        order: Any = "most confident first",
        seed: Any = 0,
        true_class: Any = ANY,
        predicted_class: Any = ANY,
    ) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """List misclassified images.

        Args:
            count: Number of images, from 1 to 60.
            order: most confident first, least confident first, or at random.
            seed: Seed of the random order.
            true_class: The true class, or any class.
            predicted_class: The predicted class, or any class.

        Returns:
            For each image, its index in the dataset, true and predicted class, confidence and logits; and a picture.
        """
        rows, _, pictures = mistakes(self._loaded, count, order, seed, true_class, predicted_class)
        evaluation, names = self._loaded.evaluation, self._network.class_names
        assert evaluation is not None
        confidences = evaluation.confidences(self._network.recipe.temperature)
        answers = [
            {
                "index": int(evaluation.indices[row]),
                "true": names[evaluation.labels[row]],
                "predicted": names[evaluation.predictions[row]],
                "confidence": float(confidences[row]),
                "logits": evaluation.logits[row].tolist(),
            }
            for row in rows
        ]
        return answers, pictures

    def confusion_matrix(self) -> dict[str, Any]:
        """Return the class names, and the number of images by true class (row) and predicted class (column)."""
        if self._loaded.evaluation is None:
            raise gr.Error(NO_EVALUATION, print_exception=False)
        return {"classes": self._network.class_names, "counts": self._loaded.evaluation.counts.tolist()}

    def _classify(self, files: list[str] | None, options: ExplainOptions | None = None) -> UploadResult:
        if not files or len(files) > MAX_IMAGES:
            raise gr.Error(f"images must be a list of 1 to {MAX_IMAGES} files.", print_exception=False)
        return classify(self._network, files, options)


def _add(function: Any, inputs: list[Any], outputs: Any) -> None:
    gr.Button(visible=False).click(
        function,
        inputs,
        outputs,
        api_name=function.__name__,
        concurrency_id="network",
        concurrency_limit=1,
    )
