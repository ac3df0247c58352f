"""Speed of heatmaps, compared with the grad-cam library, and of drawing pictures."""

import statistics

import numpy as np
import torch

from benchmarks.timing import print_table, side_by_side, summary
from callbacks.rendering.class_activation_maps import heatmaps
from callbacks.rendering.confusion import confusion_picture
from callbacks.rendering.explanation_grid import explanation_grid
from callbacks.rendering.grid import image_grid
from cifar_lit.models import ResNet9


def explanations(images: int = 16, rounds: int = 15) -> None:
    """Time Grad-CAM for a ResNet-9 against the grad-cam library, on this CPU or GPU, and the drawing of pictures.

    Args:
        images: Number of images to explain in one call.
        rounds: How often to time each call.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = ResNet9().eval().to(device, memory_format=torch.channels_last)
    twin = ResNet9().eval().to(device, memory_format=torch.channels_last)
    twin.load_state_dict(net.state_dict())
    inputs = torch.randn(images, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    classes = torch.arange(images, device=device) % 10
    library = pytorch_grad_cam.GradCAM(twin, [twin.layer3])
    targets = [ClassifierOutputTarget(label) for label in classes.tolist()]

    def ours() -> np.ndarray:
        return heatmaps(net, ["layer3"], inputs, classes[:, None])[0, :, 0].cpu().numpy()

    def ours_bf16() -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16):
            return ours()

    def one_by_one() -> None:
        for index in range(images):
            library(inputs[index : index + 1], targets[index : index + 1])

    calls = {
        "this project, float32": ours,
        "this project, bfloat16": ours_bf16,
        "grad-cam library, one batch": lambda: library(inputs, targets),
        "grad-cam library, image by image": one_by_one,
    }
    times = side_by_side(calls, rounds)
    print(f"\nGrad-CAM of {images} images, ResNet-9, {device}, {torch.get_num_threads()} threads:")
    base = statistics.median(times["this project, float32"])
    print_table(
        ["", "ms: median (quartiles)", "ratio"],
        [[name, summary(values), f"{statistics.median(values) / base:.2f}"] for name, values in times.items()],
    )
    print(f"\nLargest difference between the maps: {np.abs(ours() - library(inputs, targets)).max():.1e}")

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    names = [f"class {label}" for label in range(100)]
    few, many = random.integers(0, 50, (10, 10)), random.integers(0, 5, (100, 100))
    maps = random.random((8, 2, 32, 32))
    drawings = {
        "grid of 20 images": lambda: image_grid(pixels, ["cat\n→ dog\n99.1% #1234"] * 20, 5, 128, "title"),
        "8 images with 16 heatmaps": lambda: explanation_grid(
            pixels[:8], maps, ["cat"] * 8, [["why cat?", "why dog?"]] * 8
        ),
        "confusion matrix, 10 classes": lambda: confusion_picture(few, names[:10]),
        "confusion matrix, 100 classes": lambda: confusion_picture(many, names),
    }
    print("\nPictures:")
    print_table(
        ["", "ms: median (quartiles)"],
        [[name, summary(values)] for name, values in side_by_side(drawings, rounds).items()],
    )
