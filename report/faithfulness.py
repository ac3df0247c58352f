"""Report section: faithfulness of heatmaps by deletion and insertion."""

import torch

from callbacks.rendering.activations import feature_maps, last_of_each_size
from callbacks.rendering.class_activation_maps import METHOD_NAMES, fast_methods, heatmaps_by_layer
from callbacks.rendering.markdown import escape
from cifar_lit.errors import InputError
from cifar_lit.evaluation.faithfulness import InsertionDeletion
from cifar_lit.evaluation.neighbors import evenly_spaced
from cifar_lit.progress import with_progress
from report.document import Document, section
from report.results import pixels_of
from space.export.run_data import RunData


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
    curves = InsertionDeletion(network.net, inputs, classes, seed=seed)
    methods = fast_methods(network.net, inputs)
    try:
        results = {
            (METHOD_NAMES[method], layer): curves.evaluate(maps[:, 0])
            for method in with_progress(methods, "Evaluating heatmaps")
            for layer, maps in heatmaps_by_layer(network.net, layers, inputs, classes, method).items()
        }
    except ValueError as error:  # a network that disables gradients
        raise InputError(str(error)) from error
    random = torch.rand(len(inputs), *inputs.shape[-2:], generator=torch.Generator().manual_seed(seed))
    results["random order", ""] = curves.evaluate(random.to(inputs.device))
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
        " standard errors of the paired difference. The other heatmaps of this report and those of an exported page use"
        " the method and layer that were the most faithful on validation images, without layers of the input's size."
    )
    document.table(["method", "layer", "insertion", "deletion"], [[*name, *result.row()] for name, result in ranked])
