"""The model card: the Space's README and the text of its last tab."""

from collections.abc import Sequence
from importlib.metadata import version

import yaml
from huggingface_hub import SpaceCardData

from callbacks.rendering.markdown import class_scores_table, confused_pairs_table, escape, table
from cifar_lit.evaluation.confusion import class_scores, most_confused_pairs
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.evaluation.result import EvaluationResult
from cifar_lit.inference.bundle import TrainedClassifier
from space.app.bundle_metadata import BundleMetadata
from space.app.loaded_bundle import NOTHING_JUDGED


def front_matter(title: str) -> str:
    """What Hugging Face reads of a Space's README, YAML between two lines of dashes.

    Source: https://huggingface.co/docs/hub/spaces-config-reference
    """
    data = SpaceCardData(
        title=title,
        emoji="🔍",
        colorFrom="blue",
        colorTo="indigo",
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version="3.12",
        app_file="app.py",
        short_description="An image classifier that shows why",  # 60 letters at most
        tags=["image-classification", "grad-cam", "interpretability", "pytorch"],
        pinned=False,
        license="mit",
    )
    return f"---\n{yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)}---\n"


def model_card(trained: TrainedClassifier, facts: BundleMetadata, judged: EvaluationResult | None, recipe: str) -> str:
    """The whole text.

    Args:
        trained: The classifier.
        facts: Of the run.
        judged: How it was judged; None where there were no images.
        recipe: The run's settings, as YAML.
    """
    names = trained.recipe.class_names
    height, width = trained.recipe.image_size
    parts = [
        f"# {escape(facts.title)}",
        f"A network that sorts images of {width}x{height} pixels into {len(names)} classes:"
        f" {', '.join(map(escape, names))}.",
        _PAGE.replace("CLASS", names[0].replace('"', "")),
        "## The run",
        table(["setting", "value"], facts.run.items()),
        "## Results",
        _results(judged, names),
        "## Images of something else",
        _unknown(facts.unknown, trained.recipe.temperature),
        "## Recipe",
        "The settings that differ from run to run; the network's weights are in `bundle/weights.safetensors`.",
        f"```yaml\n{recipe.strip()}\n```",
        _LIMITS,
        _FILES,
    ]
    return "\n\n".join(parts) + "\n"


def _results(judged: EvaluationResult | None, names: Sequence[str]) -> str:
    if judged is None:
        return NOTHING_JUDGED
    before, after = judged.calibration_errors()
    summary = (
        f"**{judged.accuracy:.2%}** of {judged.images:,} {judged.split} images are right ({judged.errors:,} mistakes);"
        f" mean cross-entropy {judged.loss:.4f}. Expected calibration error: {before:.2%} as trained, {after:.2%} with"
        " the temperature that this page uses. All are measured in float32, as the page computes."
    )
    parts = [summary, class_scores_table(class_scores(judged.counts), names)]
    if pairs := most_confused_pairs(judged.counts):
        parts += ["The classes that are confused most often:", confused_pairs_table(pairs, names)]
    return "\n\n".join(parts)


def _unknown(unknown: OODThreshold | None, temperature: float) -> str:
    if unknown is None:
        return "No threshold was fitted, so the page never says that an image is none of the classes."
    kinds = ", ".join(f"{share:.0%} of {escape(kind)}" for kind, share in unknown.found.items())
    worth = "a hint, no proof" if unknown.useful else "too few of them, so the page never calls an image unknown"
    return (
        "The network always names one of its classes. Where its energy (the log-sum-exp of the logits: how much it sees"
        f" of any class; [Liu et al. 2020](https://arxiv.org/abs/2010.03759)) is below {unknown.threshold:.2f}, the"
        " page says that the image is probably none of them. That threshold calls 5% of the"
        f" {unknown.fitted_on} images unknown, and {unknown.false_alarms:.1%} of the {unknown.judged_on} images. Of 256"
        f" images of each kind that were drawn to be unknown it finds {kinds}: {worth}."
        f" Confidences are calibrated by dividing the logits by {temperature:.2f}."
    )


_PAGE = """## What the page shows

- **Classify**: up to 10 images at a time, uploaded, dragged, pasted or from the camera, or one of the examples (a click
  sets all controls as well). Beside each image stands what the network really sees of it (scaled with antialiasing,
  then cut at the centre or padded, as you choose), and its likeliest classes, 1 to 10 of them, with calibrated
  confidences. Heatmaps show what speaks for the predicted class: for as many images as you ask, from any layer with
  feature maps, by Grad-CAM, Grad-CAM++, HiResCAM or LayerCAM, at the opacity that you choose. A click on another class
  in the list shows what speaks for that one beside it. All results are a table too, and a CSV file.
- **Misclassified**: as many of the network's mistakes as you ask (and as there are), sorted by confidence or at random,
  of all classes or of those that you choose, with or without heatmaps of the predicted and the true class. A click
  sends one to *Classify*.
- **Confusion matrix**: how many images of each class were taken for which class; a click on a cell shows them.
- **Training**: the run's curves, each class's scores, and how far the confidences can be trusted.

An image is a JPEG, PNG, WEBP, BMP or GIF file of at most 16 million pixels and 10 MB. Nothing that you upload is kept
longer than two hours, and it goes to nobody but the server that runs this page.

By program, with the `gradio_client` package (the Space's address, or `http://127.0.0.1:7860`):

```python
from gradio_client import Client, handle_file

page = Client("http://127.0.0.1:7860")
page.predict([handle_file("photo.jpg")], 3, api_name="/classify")
page.predict([handle_file("photo.jpg")], class_name="CLASS", opacity=0.6, api_name="/explain")
page.predict(count=5, api_name="/misclassified")
page.predict(api_name="/confusion_matrix")
```

As a server of tools for language models: `pip install "gradio[mcp]"`, then `GRADIO_MCP_SERVER=true python app.py`."""

_LIMITS = """## Limits

- The network knows its classes alone, and as the images that it was trained on show them. A photograph is scaled to
  what the second picture shows, and judged by that.
- A heatmap tells where the evidence for a class lies in the chosen layer, scaled to the full range of colours by
  itself, so that weak evidence looks as bright as strong. It does not tell what the network would do if the
  image were changed.
- Deep layers have few places (see the sizes in the list of layers), so their heatmaps are smooth because they are
  coarse.
- The confidences are calibrated for images like those that the network was judged by; for others they mean little."""

_FILES = """## Files

`app.py` starts the page. `bundle/` holds the network (`recipe.json`, `weights.safetensors`), how it was judged
(`evaluation.safetensors`, `metadata.json`) and the examples; none of it is code. `space/`, `callbacks/rendering/` and
`cifar_lit/` hold the page, the drawing code (which the training runs use as well) and the networks. There is no
training code here.
Elsewhere than on Hugging Face: `pip install -r requirements.txt`, then `python app.py`."""
