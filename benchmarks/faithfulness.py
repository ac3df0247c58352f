"""Whether heatmaps show what the network uses: deletion and insertion, and weights randomised layer by layer."""

import copy
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import print_table
from callbacks.rendering.feature_maps import feature_maps
from callbacks.rendering.heatmaps import Method, heatmaps
from cifar_lit.evaluation.faithfulness import areas
from cifar_lit.inference.images import image_files, read_image
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier


def faithfulness(ckpt_path: str, images: str, count: int = 200, slow: int = 20, steps: int = 16) -> None:
    """Measures how faithful each method's heatmaps are to a trained network.

    Deletion: the pixels are replaced by the mean colour, the hottest first; the sooner the class's probability falls,
    the better: a low area under its curve. Insertion: they are put onto the mean colour instead: a high area. The area
    of a random order stands beside them. Then the weights are randomised from the last layer to the first: the more a
    map shows of the network, the less it still resembles the first one (rank correlation).

    Args:
        ckpt_path: A checkpoint.
        images: A folder of images, evenly chosen from.
        count: How many images.
        slow: How many of them for the methods that run the network once for each channel.
        steps: Into how many equal steps to cut the order of the pixels.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1; Adebayo et al. 2018, arXiv:1810.03292, section 3.
    """
    trained = read_classifier(Path(ckpt_path))
    classifier, size = trained.network, trained.recipe.image_size
    net = classifier.net
    files = sorted(image_files(Path(images)))
    chosen = files[:: max(1, len(files) // count)][:count]
    pixels = torch.stack([torch.from_numpy(read_image(file, size).copy()).permute(2, 0, 1) for file in chosen])
    inputs = classifier.normalize(pixels)  # whose 0 is the mean colour
    with torch.inference_mode():
        classes = net(inputs).argmax(1)[:, None]
    layer = list(feature_maps(net, inputs))[-1]
    print(f"\n{len(chosen)} images of {images}, layer {layer} of {ckpt_path}:")
    torch.manual_seed(0)
    chance = areas(net, inputs, classes, torch.rand(len(inputs), *size), steps)
    rows = [["random order", *chance.row(), ""]]
    for method in get_args(Method):
        some = slow if method in ("scorecam", "ablationcam") else len(inputs)
        maps = heatmaps(net, [layer], inputs[:some], classes[:some], method)[0, :, 0]
        similar = ", ".join(f"{value:.2f}" for value in randomised(net, layer, inputs[:some], classes[:some], method))
        rows.append([method, *areas(net, inputs[:some], classes[:some], maps, steps).row(), similar])
    header = ["method", "insertion (higher is better)", "deletion (lower is better)", "after randomising"]
    print_table(header, rows)


def randomised(net: nn.Module, layer: str, inputs: Tensor, classes: Tensor, method: Method) -> list[float]:
    """Rank correlations with the trained network's maps, as its layers are randomised from the last to the first.

    Args:
        net: The network, in evaluation mode.
        layer: The layer that is shown.
        inputs: float (N, C, H, W).
        classes: int64 (N, 1).
        method: The method.

    Returns:
        The mean correlation over the images after each quarter of the layers with weights.
    """
    trained = heatmaps(net, [layer], inputs, classes, method)[0, :, 0]
    twin = copy.deepcopy(net)
    layers = [module for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)][::-1]
    correlations = []
    torch.manual_seed(0)
    for quarter in np.array_split(np.arange(len(layers)), min(4, len(layers))):
        for place in quarter:
            layers[place].reset_parameters()
        maps = heatmaps(twin, [layer], inputs, classes, method)[0, :, 0]
        correlations.append(rank_correlation(trained, maps))
    return correlations


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Mean Spearman correlation of maps (N, H, W), over those of which neither is constant."""
    ranks = [maps.flatten(1).argsort(1).argsort(1).float() for maps in (first, second)]
    varied = (first.flatten(1).std(1) > 0) & (second.flatten(1).std(1) > 0)
    centred = [part[varied] - part[varied].mean(1, keepdim=True) for part in ranks]
    correlation = (centred[0] * centred[1]).sum(1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
    return float(correlation.mean())
