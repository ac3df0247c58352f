"""The model card: a Space's README, and the text of its last tab."""

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
from space.app.loaded_bundle import NO_EVALUATION


def front_matter(title: str) -> str:
    """Return the YAML front matter of a Space's README.

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
        short_description="An image classifier that shows why",  # at most 60 characters
        tags=["image-classification", "grad-cam", "interpretability", "pytorch"],
        pinned=False,
        license="mit",
    )
    return f"---\n{yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)}---\n"


def model_card(
    classifier: TrainedClassifier, metadata: BundleMetadata, result: EvaluationResult | None, recipe: str
) -> str:
    """Return the model card, as Markdown.

    Args:
        classifier: The classifier.
        metadata: Metadata of the run.
        result: Its evaluation result; None without images.
        recipe: The run's settings, as YAML.
    """
    names = classifier.recipe.class_names
    height, width = classifier.recipe.image_size
    sections = [
        f"# {escape(metadata.title)}",
        f"A network that classifies images of {width}x{height} pixels into {len(names)} classes:"
        f" {', '.join(map(escape, names))}.",
        _PAGE.replace("CLASS", names[0].replace('"', "")),
        "## The run",
        table(["setting", "value"], metadata.run.items()),
        "## Results",
        _results(result, names),
        "## Out-of-distribution images",
        _ood(metadata.unknown, classifier.recipe.temperature),
        "## Recipe",
        "The most important settings of the run. The network's weights are in `bundle/weights.safetensors`.",
        f"```yaml\n{recipe.strip()}\n```",
        _LIMITS,
        _FILES,
    ]
    return "\n\n".join(sections) + "\n"


def _results(result: EvaluationResult | None, names: Sequence[str]) -> str:
    if result is None:
        return NO_EVALUATION
    before, after = result.calibration_errors()
    summary = (
        f"**{result.accuracy:.2%}** of {result.images:,} {result.split} images are classified correctly"
        f" ({result.errors:,} mistakes); mean cross-entropy {result.loss:.4f}. Expected calibration error:"
        f" {before:.2%} as trained, {after:.2%} with the temperature that this page uses. All values were computed in"
        " float32, as on this page."
    )
    sections = [summary, class_scores_table(class_scores(result.counts), names)]
    if pairs := most_confused_pairs(result.counts):
        sections += ["The most confused classes:", confused_pairs_table(pairs, names)]
    return "\n\n".join(sections)


def _ood(threshold: OODThreshold | None, temperature: float) -> str:
    if threshold is None:
        return "No threshold was fitted, so the page never flags an image as unknown."
    kinds = ", ".join(f"{share:.0%} of {escape(kind)}" for kind, share in threshold.found.items())
    verdict = "a hint, not proof" if threshold.useful else "too few, so the page never flags an image as unknown"
    return (
        "The network always predicts one of its classes. If the energy score (the log-sum-exp of the logits;"
        f" [Liu et al. 2020](https://arxiv.org/abs/2010.03759)) is below {threshold.threshold:.2f}, the page adds that"
        f" the image is probably none of them. This threshold flags 5% of the {threshold.fitted_on} images, and"
        f" {threshold.false_alarms:.1%} of the {threshold.judged_on} images. Of 256 synthetic images of each kind, it"
        f" flags {kinds}: {verdict}. Confidences are calibrated by dividing the logits by {temperature:.2f}."
    )


_PAGE = """## What the page shows

- **Classify**: up to 10 images at a time, uploaded, dragged, pasted, from the camera, or one of the examples (which
  also set all controls). Next to each image, the page shows what the network sees of it (scaled with antialiasing, then
  center-cropped or padded) and its 1 to 10 most likely classes with calibrated confidences. Heatmaps show the evidence
  for the predicted class, from any layer with feature maps, by Grad-CAM, Grad-CAM++, HiResCAM or LayerCAM. Click
  another class in the list to compare its heatmap. All results are also available as a table and a CSV file.
- **Misclassified**: the network's mistakes, sorted by confidence or in random order, filtered by class, with or without
  heatmaps of the predicted and the true class. Click an image to send it to *Classify*.
- **Confusion matrix**: the number of images by true and predicted class. Click a cell to see its images.
- **Training**: the run's curves, the scores of each class, and the calibration of the confidences.

Images may be JPEG, PNG, WEBP, BMP or GIF files of at most 16 million pixels and 10 MB. Uploads are deleted after two
hours, and are sent only to the server that runs this page.

From Python, with the `gradio_client` package (use the Space's address, or `http://127.0.0.1:7860`):

```python
from gradio_client import Client, handle_file

page = Client("http://127.0.0.1:7860")
page.predict([handle_file("photo.jpg")], 3, api_name="/classify")
page.predict([handle_file("photo.jpg")], class_name="CLASS", opacity=0.6, api_name="/explain")
page.predict(count=5, api_name="/misclassified")
page.predict(api_name="/confusion_matrix")
```

As an MCP server: `pip install "gradio[mcp]"`, then `GRADIO_MCP_SERVER=true python app.py`."""

_LIMITS = """## Limits

- The network only knows its classes, as its training images show them. A photo is scaled to the second picture, and
  classified from that only.
- A heatmap shows where the chosen layer contains evidence for a class. It is scaled to the full range of colors, so
  weak evidence looks as bright as strong evidence. It does not show how the network would react to a changed image.
- Feature maps of deep layers are small (see the sizes in the list of layers), so their heatmaps are coarse.
- The confidences are calibrated for images like those that the network was evaluated on, not for others."""

_FILES = """## Files

`app.py` starts the page. `bundle/` contains the network (`recipe.json`, `weights.safetensors`), its evaluation
(`evaluation.safetensors`, `metadata.json`) and the examples, without any code. `space/`, `callbacks/rendering/` and
`cifar_lit/` contain the page, the rendering code (shared with training) and the networks, but no training code.

To run it elsewhere: `pip install -r requirements.txt`, then `python app.py`."""
