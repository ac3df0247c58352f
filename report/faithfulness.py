"""Report section: faithfulness of heatmaps by deletion and insertion."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from callbacks.rendering.activations import feature_maps
from callbacks.rendering.class_activation_maps import GRADIENT_METHODS, heatmaps
from callbacks.rendering.markdown import escape
from cifar_lit.errors import InputError
from cifar_lit.evaluation.faithfulness import Faithfulness, deletion_insertion
from cifar_lit.evaluation.neighbors import evenly_spaced
from report.document import Document, section
from report.results import pixels_of
from space.export.progress import with_progress
from space.export.run_data import RunData


def by_method_and_layer(
    net: nn.Module, inputs: Tensor, classes: Tensor, layers: list[str], seed: int = 0
) -> dict[tuple[str, str], Faithfulness]:
    """Return the areas for each gradient method and layer, and for a random order under ("random order", "").

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean color.
        classes: int64 (N, 1).
        layers: Names of layers with feature maps.
        seed: Seed of the random order, and of the order of equally hot pixels.
    """
    random = torch.rand(len(inputs), *inputs.shape[-2:], generator=torch.Generator().manual_seed(seed))
    results = {("random order", ""): deletion_insertion(net, inputs, classes, random.to(inputs.device), seed=seed)}
    for method in with_progress(GRADIENT_METHODS, "Evaluating heatmaps", len(GRADIENT_METHODS)):
        for layer, maps in zip(layers, heatmaps(net, layers, inputs, classes, method), strict=True):
            results[method, layer] = deletion_insertion(net, inputs, classes, maps[:, 0], seed=seed)
    return results


def last_of_each_size(maps: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """Return the last layer of each feature map size, the last layer first.

    >>> last_of_each_size({"a": (2, 8, 8), "b": (4, 8, 8), "c": (4, 4, 4)})
    ['c', 'b']
    """
    last = {size[1:]: name for name, size in maps.items()}
    return sorted(last.values(), key=list(maps).index, reverse=True)


@section("Faithfulness of the heatmaps")
def write_faithfulness(document: Document, run: RunData, max_images: int, seed: int) -> None:
    """Write the faithfulness of heatmaps by method and layer."""
    if max_images == 0:
        raise InputError("--faithfulness_images is 0")
    network = run.classifier.network
    chosen = evenly_spaced(torch.arange(len(run.eval_split.rows)), max_images)
    inputs = network.preprocess(pixels_of(run, chosen).to(run.classifier.device))
    layers = last_of_each_size(feature_maps(network.net, inputs))
    if not layers:
        raise InputError("the network has no feature maps")
    classes = run.eval_logits[chosen].argmax(1)[:, None].to(inputs.device)
    try:
        results = by_method_and_layer(network.net, inputs, classes, layers, seed)
    except ValueError as error:  # a network that disables gradients
        raise InputError(str(error)) from error
    ranked = sorted(results.items(), key=lambda item: -item[1].insertion.mean())
    document.text(
        f"On {len(chosen)} {run.eval_split.name} images: area under the curve of the predicted class's probability,"
        " with its standard error, as the hottest pixels are added to the mean color (insertion: higher is better) or"
        " removed (deletion: lower is better). [Petsiuk et al. 2018](https://arxiv.org/abs/1806.07421) start insertion"
        " from a blurred image instead."
    )
    (method, layer), best = ranked[0]
    close = sum(faithfulness.has_similar_insertion(best) for _, faithfulness in ranked[1:])
    where = f" at **{escape(layer)}**" if layer else ""
    document.text(
        f"Most faithful by insertion: **{method}**{where}. {close} of the {len(ranked) - 1} others are within two"
        " standard errors of the paired difference."
    )
    document.table(["method", "layer", "insertion", "deletion"], [[*name, *result.row()] for name, result in ranked])
