"""Faithfulness of heatmaps: deletion and insertion, and weights randomized layer by layer."""

import copy
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.timing import print_table
from callbacks.rendering.activations import feature_maps
from callbacks.rendering.class_activation_maps import Method, fast_methods, heatmaps
from cifar_lit.evaluation.faithfulness import InsertionDeletion
from cifar_lit.inference.images import image_files, read_image
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier


def faithfulness(ckpt_path: str, images: str, count: int = 200, slow: int = 20, steps: int = 16) -> None:
    """Measure how faithful each method's heatmaps are to a trained network.

    Deletion replaces the pixels by the mean color, the hottest first; the faster the class's probability drops, the
    more faithful the map: a low area under the curve. Insertion adds them to the mean color instead: a high area. A
    random order is listed for comparison. Then the weights are randomized from the last layer to the first: the more a
    map depends on the network, the less it correlates with the trained network's map (rank correlation).

    Args:
        ckpt_path: Path of the checkpoint.
        images: Folder of images; ``count`` of them are chosen at even intervals.
        count: Number of images.
        slow: Number of images for the methods that run the network once per channel.
        steps: Number of equal steps that the pixels are divided into.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1; Adebayo et al. 2018, arXiv:1810.03292, section 3.
    """
    trained = read_classifier(Path(ckpt_path))
    classifier, size = trained.network, trained.recipe.image_size
    net = classifier.net
    files = sorted(image_files(Path(images)))
    chosen = files[:: max(1, len(files) // count)][:count]
    read = [torch.from_numpy(read_image(file, trained.recipe.resizing).copy()) for file in chosen]
    pixels = torch.stack(read).permute(0, 3, 1, 2).contiguous()
    inputs = classifier.normalize(pixels)  # 0 is the mean color
    with torch.inference_mode():
        classes = net(inputs).argmax(1)[:, None]
    layer = list(feature_maps(net, inputs))[-1]
    print(f"\n{len(chosen)} images of {images}, layer {layer} of {ckpt_path}:")
    torch.manual_seed(0)
    random_areas = InsertionDeletion(net, inputs, classes, steps).evaluate(torch.rand(len(inputs), *size))
    rows = [["random order", *random_areas.row(), ""]]
    methods: list[Method] = [*fast_methods(net, inputs), "eigencam", "scorecam", "ablationcam"]
    for method in methods:
        used = slow if method in ("scorecam", "ablationcam") else len(inputs)
        maps = heatmaps(net, [layer], inputs[:used], classes[:used], method)[0, :, 0]
        correlations = randomization_test(net, layer, inputs[:used], classes[:used], method)
        cell = ", ".join(f"{value:.2f}" for value in correlations)
        rows.append([method, *InsertionDeletion(net, inputs[:used], classes[:used], steps).evaluate(maps).row(), cell])
    header = ["method", "insertion (higher is better)", "deletion (lower is better)", "correlation after randomizing"]
    print_table(header, rows)


def randomization_test(net: nn.Module, layer: str, inputs: Tensor, classes: Tensor, method: Method) -> list[float]:
    """Return rank correlations with the trained network's maps as layers are randomized from the last to the first.

    Args:
        net: The network, in evaluation mode.
        layer: Name of the layer to explain.
        inputs: float (N, C, H, W).
        classes: int64 (N, 1).
        method: Heatmap method.

    Returns:
        The mean correlation over the images after randomizing each further quarter of the layers with weights.
    """
    trained = heatmaps(net, [layer], inputs, classes, method)[0, :, 0]
    randomized = copy.deepcopy(net)
    layers = [module for module in randomized.modules() if isinstance(module, nn.Conv2d | nn.Linear)][::-1]
    correlations = []
    torch.manual_seed(0)
    for quarter in np.array_split(np.arange(len(layers)), min(4, len(layers))):
        for index in quarter:
            layers[index].reset_parameters()
        maps = heatmaps(randomized, [layer], inputs, classes, method)[0, :, 0]
        correlations.append(rank_correlation(trained, maps))
    return correlations


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return the mean Spearman correlation of two sets of maps (N, H, W), skipping pairs with a constant map."""
    pairs = zip(first.flatten(1).cpu().numpy(), second.flatten(1).cpu().numpy(), strict=True)
    return float(np.mean([spearmanr(*pair).statistic for pair in pairs if all(map(np.ptp, pair))]))
