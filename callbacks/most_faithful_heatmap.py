"""Select the layer and method with the most faithful heatmaps."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from callbacks.rendering.activations import feature_maps, last_of_each_size
from callbacks.rendering.class_activation_maps import Method, fast_methods, heatmaps_by_layer
from cifar_lit.evaluation.faithfulness import InsertionDeletion


def select_heatmap(
    net: nn.Module,
    inputs: Tensor,
    layers: Sequence[str] | None = None,
    methods: Iterable[Method] | None = None,
    steps: int = 10,
) -> tuple[str, Method]:
    """Return the layer and the method with the highest area under the insertion curve of the predicted classes.

    Args:
        net: The network, in evaluation mode.
        inputs: float (N, C, H, W), with 0 as the mean color.
        layers: Layers to choose from; by default see ``candidate_layers``.
        methods: Methods to choose from; by default ``fast_methods``.
        steps: Number of steps of the curve.

    Raises:
        ValueError: If the network has no feature maps or disables gradients.
    """
    layers = layers or candidate_layers(feature_maps(net, inputs), inputs.shape[2])
    if not layers:
        raise ValueError("the network has no feature maps")
    with torch.inference_mode():
        classes = net(inputs).argmax(1, keepdim=True)
    curves = InsertionDeletion(net, inputs, classes, steps)
    areas = {
        (layer, method): float(curves.insertion(maps[:, 0]).mean())
        for method in methods or fast_methods(net, inputs)
        for layer, maps in heatmaps_by_layer(net, layers, inputs, classes, method).items()
    }
    return max(areas, key=lambda choice: areas[choice])


def candidate_layers(maps: Mapping[str, tuple[int, int, int]], height: int) -> list[str]:
    """Return the last layer of each size of at most half the input's height, the last layer first.

    At the input's own resolution, a heatmap is a scatter of single pixels, whatever its area under the curve. If all
    layers have that resolution, return the last one of each size.

    Args:
        maps: (channels, height, width) of each feature map by name.
        height: Height of the network's input.

    >>> candidate_layers({"a": (2, 32, 32), "b": (4, 16, 16), "c": (8, 16, 16), "d": (8, 4, 4)}, 32)
    ['d', 'c']
    """
    stages = last_of_each_size(maps)
    return [name for name in stages if 2 * maps[name][1] <= height] or stages
