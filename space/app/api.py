"""The page's named API, for programs."""

from typing import Any

import gradio as gr

from space.app.image_cache import cached_image
from space.app.loaded_bundle import NOTHING_JUDGED, LoadedBundle
from space.app.network import METHODS
from space.app.service import Answer, ExplainOptions, classify, read_images
from space.app.table import as_json, predictions_of
from space.app.tabs.classify import FITS
from space.app.tabs.evaluated_images import ANY
from space.app.tabs.misclassified import mistakes
from space.app.validation import MOST_CLASSES, MOST_IMAGES, check_choice, check_int, check_number

_METHODS = {method: method for method in METHODS.values()}
_FITS = {fit: fit for fit in FITS.values()}


class Api:
    """Adds ``/classify``, ``/explain``, ``/misclassified`` and ``/confusion_matrix`` to the page that is being built.

    Their inputs are those of components that nobody sees: gradio then takes only files that were uploaded.
    """

    def __init__(self, shown: LoadedBundle) -> None:
        self._shown, self._network = shown, shown.network
        layers = list(self._network.layers)
        files = gr.File(file_count="multiple", visible=False, label="images")
        fit = gr.Textbox("crop", visible=False, label="fit")
        layer = gr.Textbox(layers[-1] if layers else "", visible=False, label="layer")
        method = gr.Textbox("gradcam", visible=False, label="method")
        opacity = gr.Number(0.5, visible=False, label="opacity")
        tiles = gr.Gallery(visible=False, format="png", label="pictures")
        answers = gr.JSON(visible=False, label="answers")
        _add(self.classify, [files, _number(5, "top_k"), fit], answers)
        explained = gr.Textbox("", visible=False, label="class_name")
        _add(self.explain, [files, explained, layer, method, opacity, fit], tiles)
        choice = [_number(10, "count"), gr.Textbox("most confident first", visible=False, label="order")]
        choice += [_number(0, "seed")]
        choice += [gr.Textbox(ANY, visible=False, label=label) for label in ("true_class", "predicted_class")]
        _add(self.misclassified, choice, [answers, tiles])
        _add(self.confusion_matrix, [], answers)

    def classify(self, images: list[str] | None, top_k: Any = 5, fit: Any = "crop") -> list[dict[str, Any]]:
        """The likeliest classes of up to 10 images.

        Args:
            images: The files.
            top_k: How many classes to name for each, from 1 to 10, and at most as many as there are.
            fit: How an image of another shape is made to fit: crop or pad.

        Returns:
            For each image that can be read its number, beginning with 1, its likeliest classes with their calibrated
            confidences, the logits of all classes, and whether it is probably none of the classes; for each other
            image an error.
        """
        top_k = check_int("top_k", top_k, 1, min(MOST_CLASSES, len(self._network.class_names)))
        answer, errors = self._answer(images, fit, ExplainOptions())
        if answer is None:
            return errors
        predictions = predictions_of(answer, self._network, self._shown.facts.unknown, top_k)
        logits = answer.logits.tolist()
        return [as_json(one) | {"logits": row} for one, row in zip(predictions, logits, strict=True)] + errors

    def explain(
        self,
        images: list[str] | None,
        class_name: Any = "",
        layer: Any = "",
        method: Any = "gradcam",
        opacity: Any = 0.5,
        fit: Any = "crop",
    ) -> list[tuple[str, str]]:
        """What speaks for a class in up to 10 images.

        Args:
            images: The files; those that cannot be read are left out.
            class_name: The class; empty for the predicted one of each image.
            layer: The feature map, by its name; by default the last one.
            method: gradcam, gradcam++, hirescam or layercam.
            opacity: Of the heatmap: 0 gives the image, 1 the heatmap.
            fit: How an image of another shape is made to fit: crop or pad.

        Returns:
            For each image a picture, as the network sees it with the heatmap over it, and the class.
        """
        names = self._network.class_names
        layer = check_choice("layer", layer, self._network.layers)
        how = ExplainOptions(MOST_IMAGES, layer, check_choice("method", method, _METHODS))
        opacity = check_number("opacity", opacity, 0, 1)
        wanted = None if class_name == "" else names.index(check_choice("class_name", class_name, names))
        answer, _ = self._answer(images, fit, how)
        if answer is None:
            return []
        if wanted is not None:
            asked = dict.fromkeys(range(len(answer.logits)), wanted)
            answer = Answer(answer.images, answer.logits, asked).explain(self._network, how)
        found = [answer.overlays(place, opacity)[-1] for place in range(len(answer.logits))]
        return [(cached_image(picture), names[label]) for picture, label in found]

    def misclassified(
        self,
        count: Any = 10,
        order: Any = "most confident first",
        seed: Any = 0,
        true_class: Any = ANY,
        predicted_class: Any = ANY,
    ) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """Images that the network misclassified.

        Args:
            count: How many, from 1 to 60.
            order: most confident first, least confident first, or at random.
            seed: Of the random order.
            true_class: The true class, or any class.
            predicted_class: The predicted class, or any class.

        Returns:
            For each its index in the data set, true and predicted class, confidence and logits; and its picture.
        """
        rows, _, pictures = mistakes(self._shown, count, order, seed, true_class, predicted_class)
        judged, names = self._shown.judged, self._network.class_names
        assert judged is not None
        confidences = judged.confidences(self._network.recipe.temperature)
        found = [
            {
                "index": int(judged.indices[row]),
                "true": names[judged.labels[row]],
                "predicted": names[judged.predictions[row]],
                "confidence": float(confidences[row]),
                "logits": judged.logits[row].tolist(),
            }
            for row in rows
        ]
        return found, pictures

    def confusion_matrix(self) -> dict[str, Any]:
        """How many images of each class (a row) were taken for which class (a column), with the classes' names."""
        if self._shown.judged is None:
            raise gr.Error(NOTHING_JUDGED, print_exception=False)
        return {"classes": self._network.class_names, "counts": self._shown.judged.counts.tolist()}

    def _answer(
        self, files: list[str] | None, fit: Any, how: ExplainOptions
    ) -> tuple[Answer | None, list[dict[str, str]]]:
        """The answer, if an image can be read, and what is to be said of those that cannot."""
        if not files or len(files) > MOST_IMAGES:
            raise gr.Error(f"images must be a list of 1 to {MOST_IMAGES} files.", print_exception=False)
        images = read_images(files, self._network.recipe.image_size, check_choice("fit", fit, _FITS))
        errors = [{"error": reason} for reason in images.refused]
        return (classify(self._network, images, how) if images.numbers else None), errors


def _number(value: int, label: str) -> gr.Number:
    return gr.Number(value, visible=False, label=label)


def _add(function: Any, inputs: list[Any], outputs: Any) -> None:
    gr.Button(visible=False).click(
        function,
        inputs,
        outputs,
        api_name=function.__name__,
        concurrency_id="network",
        concurrency_limit=1,
    )
