"""The page's named API, for programs."""

from typing import Any

import gradio as gr

from space.answer import classify, read_images
from space.controls import MOST_CLASSES, MOST_IMAGES, whole
from space.network import flagged
from space.shown import Shown


def add_api(shown: Shown) -> None:
    """Adds ``/classify`` to the page that is being built.

    Its files are a component's, though nobody sees it, since gradio then takes only files that were uploaded.
    """
    network, most = shown.network, min(MOST_CLASSES, len(shown.network.class_names))

    def answers(images: list[str] | None, top_k: Any = 5) -> list[dict[str, Any]]:
        """Classifies up to 10 images.

        Args:
            images: The files.
            top_k: How many classes to name for each, from 1 to 10.

        Returns:
            For each image that can be read its number, beginning with 1, its likeliest classes with their calibrated
            confidences, the logits of all classes, and whether it is probably none of the classes; for each other
            image an error.
        """
        top_k = whole("top_k", top_k, 1, most)
        if not images or len(images) > MOST_IMAGES:
            raise gr.Error(f"images must be a list of 1 to {MOST_IMAGES} files.", print_exception=False)
        found = read_images(images, network.recipe.image_size, "crop")
        refused = [{"error": reason} for reason in found.refused]
        if not found.numbers:
            return refused
        logits = classify(network, found).logits
        shares = network.probabilities(logits)
        return [
            {
                "image": number,
                "classes": [
                    {"class": network.class_names[label], "confidence": float(share[label])}
                    for label in (-share).argsort(kind="stable")[:top_k]
                ],
                "logits": of_image.tolist(),
                "probably_none_of_the_classes": bool(flag),
            }
            for number, share, of_image, flag in zip(
                found.numbers, shares, logits, flagged(shown.facts.unknown, logits), strict=True
            )
        ] + refused

    gr.Button(visible=False).click(
        answers,
        [gr.File(file_count="multiple", visible=False, label="images"), gr.Number(5, visible=False, label="top_k")],
        gr.JSON(visible=False, label="answers"),
        api_name="classify",
        concurrency_id="network",
        concurrency_limit=1,
    )
