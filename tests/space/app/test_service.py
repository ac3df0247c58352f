"""Inference for the page, without a browser."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradio.exceptions import Error
from PIL import Image

from callbacks.rendering.class_activation_maps import heatmaps
from callbacks.rendering.markdown import escape
from callbacks.rendering.overlay import overlay
from cifar_lit.evaluation.ood import OODThreshold
from cifar_lit.inference.bundle import Recipe, TrainedClassifier
from cifar_lit.inference.images import Fit, Resizing, read_image
from space.app.service import (
    ExplainOptions,
    ImageResult,
    Network,
    UploadResult,
    classify,
    enlarge,
    explain,
    read_images,
)
from space.app.tabs.classify import layer_dropdown
from space.app.tabs.results import csv_link, results_table
from space.app.validation import check_choice, check_int, check_number

SIZE = (16, 16)


@pytest.fixture(scope="module")
def network() -> Network:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 4}}
    recipe = Recipe(net, ["cat", "dog", "owl", "<b>"], SIZE, [0.5] * 3, [0.1] * 3, temperature=2.0)
    torch.manual_seed(0)
    return Network(TrainedClassifier.from_weights(recipe, recipe.build().state_dict()))


def write(count: int) -> list[str]:
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def stacked(result: UploadResult, name: str) -> np.ndarray:
    return np.stack([getattr(image, name) for image in result.images])


def test_only_ten_images_are_classified_and_unreadable_ones_are_listed(network: Network) -> None:
    paths = write(12)
    Path(paths[1]).write_bytes(b"no image")
    result = classify(network, paths)
    assert result.paths == paths
    assert [image.number for image in result.images] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert stacked(result, "pixels").shape == (9, 16, 16, 3)
    assert [text.split(":")[0] for text in result.errors] == [
        "Image 2 cannot be read",
        "Only the first 10 of 12 images are classified.",
    ]


def test_a_photo_of_50_megapixels_is_read_like_predict_reads_it() -> None:
    gradient = np.linspace(0, 255, 8700, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(gradient, (5800, 8700)).copy()).convert("RGB").save("photo.jpg")
    images, errors = read_images(["photo.jpg"], Resizing(SIZE))
    assert errors == []
    assert np.array_equal(images[1].pixels, read_image(Path("photo.jpg"), Resizing(SIZE)))


def test_too_large_and_damaged_images_have_different_messages(network: Network) -> None:
    Image.new("1", (5000, 4000)).save("big.png")
    Path("damaged.png").write_bytes(b"no image")
    assert classify(network, ["big.png", "damaged.png"]).errors == [
        "Image 1 is too large: it has 20 megapixels; the limit is 16, except for JPEG files.",
        "Image 2 cannot be read: expected an intact image, such as a JPEG, PNG, WebP, AVIF or TIFF file.",
    ]


@pytest.mark.parametrize("name", ["drawing.svg", "page.eps", "icon.ico"])
def test_other_formats_are_rejected(network: Network, name: str) -> None:
    if name.endswith("svg"):
        Path(name).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    else:
        Image.new("RGB", (8, 8)).save(name)
    result = classify(network, [name])
    assert result.images == []
    assert result.errors[0].startswith("Image 1 cannot be read")


@pytest.mark.parametrize("suffix", ["avif", "tif", "jp2", "webp", "ppm", "tga"])
def test_the_formats_of_predict_are_read(suffix: str) -> None:
    Image.new("RGB", (300, 200), "white").save(f"image.{suffix}")
    images, errors = read_images([f"image.{suffix}"], Resizing(SIZE))
    assert errors == []
    assert images[1].pixels.min() > 250


def test_unusual_files_are_decoded_as_displayed() -> None:
    red = Image.new("RGB", (16, 16), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    left = Image.new("RGB", (16, 16), "blue")
    left.paste(red.crop((0, 0, 16, 8)), (0, 8))
    left.save("rotated.png", exif=exif)
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save("transparent.png")
    red.quantize(4).save("palette.png")
    red.convert("CMYK").save("cmyk.jpg", quality=100)
    red.save("animated.gif", save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")])
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save("deep.png")
    Image.new("L", (16, 16), 90).save("gray.png")
    images, _ = read_images(
        ["rotated.png", "transparent.png", "palette.png", "cmyk.jpg", "animated.gif", "deep.png", "gray.png"],
        Resizing(SIZE),
    )
    rotated, transparent, palette, cmyk, animated, deep, gray = (image.pixels for image in images.values())
    assert rotated[0, 0].tolist() == [255, 0, 0]
    assert rotated[0, -1].tolist() == [0, 0, 255]
    assert (transparent == 255).all()
    assert palette[3, 3].tolist() == [255, 0, 0]
    assert abs(cmyk[3, 3].astype(int) - [255, 0, 0]).max() < 6
    assert animated[3, 3, 0] > 250
    assert (deep == 255).all()
    assert (gray == 90).all()


def test_a_wide_image_is_cropped_padded_or_stretched() -> None:
    wide = Image.new("RGB", (32, 16), "red")
    wide.paste(Image.new("RGB", (16, 16), "blue"), (8, 0))
    wide.save("wide.png")
    cropped = read_images(["wide.png"], Resizing(SIZE))[0][1]
    padded = read_images(["wide.png"], Resizing(SIZE, "pad"))[0][1]
    stretched = read_images(["wide.png"], Resizing(SIZE, "stretch"))[0][1]
    assert (cropped.pixels == [0, 0, 255]).all()
    assert (padded.pixels[:3] == 128).all()
    assert padded.pixels[8, 0, 0] > 200
    assert padded.upload.shape == (16, 32, 3)
    assert np.abs(stretched.pixels[3, [0, 8, 15]].astype(int) - [[255, 0, 0], [0, 0, 255], [255, 0, 0]]).max() < 5


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_page_fits_an_image_as_the_bundle_says(network: Network, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.linear_gradient("L").resize((40, 20)).save("wide.png")
    monkeypatch.setattr(network, "recipe", replace(network.recipe, fit=fit))
    [image] = classify(network, ["wide.png"]).images
    assert np.array_equal(image.pixels, read_image(Path("wide.png"), Resizing(SIZE, fit)))


def test_probabilities_are_calibrated_and_independent_of_the_other_images(network: Network) -> None:
    result = classify(network, write(5))
    probs = stacked(result, "probs")
    for image in result.images:
        alone, _, _ = network.run(image.pixels[None])
        assert np.allclose(network.probabilities(alone), image.probs, atol=1e-6)
    assert np.allclose(probs.sum(1), 1)
    assert np.allclose(probs, torch.tensor(stacked(result, "logits") / 2).softmax(1), atol=1e-6)


def test_images_below_the_energy_threshold_are_flagged(network: Network) -> None:
    paths = write(3)
    assert [image.is_ood for image in classify(network, paths).images] == [None] * 3
    energies = np.logaddexp.reduce(stacked(classify(network, paths), "logits"), axis=1)
    threshold = OODThreshold("energy", float(np.median(energies)), "val", "test", 0.05, {"noise": 1.0})
    flagging = Network(TrainedClassifier(network.recipe, network._classifier), threshold)
    flags = [image.is_ood for image in classify(flagging, paths).images]
    assert flags == (energies < np.median(energies)).tolist()


def test_attention_rollout_is_offered_for_a_vision_transformer(network: Network) -> None:
    assert "attention_rollout" not in network.methods.values()
    settings = {"model_name": "test_vit", "img_size": 32, "num_classes": 2}
    recipe = Recipe(
        {"class_path": "timm.create_model", "init_args": settings}, ["a", "b"], (32, 32), [0.5] * 3, [0.5] * 3
    )
    vit = Network(TrainedClassifier.from_weights(recipe, recipe.build().state_dict()), method="attention_rollout")
    assert vit.methods["Gradient attention rollout"] == vit.method == "attention_rollout"
    [image, _] = classify(vit, write(2), ExplainOptions(1, vit.layer, vit.method)).images
    assert image.heatmaps[image.predicted].max() == pytest.approx(1, abs=1e-3)
    combined = layer_dropdown(vit, vit.layer, vit.method)
    assert (combined.choices, combined.value, combined.interactive) == ([("all layers", vit.layer)], vit.layer, False)
    single = layer_dropdown(vit, vit.layer, "gradcam")
    assert (single.choices, single.value, single.interactive) == (vit.layer_choices(), vit.layer, True)
    refused = Network(TrainedClassifier(network.recipe, network._classifier), method="attention_rollout")
    assert refused.method == "gradcam"


def test_heatmaps_follow_the_layer_class_and_method(network: Network) -> None:
    paths = write(4)
    plain = classify(network, paths)
    pixels = torch.from_numpy(stacked(plain, "pixels")).permute(0, 3, 1, 2)
    classifier = network._classifier
    inputs = classifier.preprocess(pixels)
    predicted = torch.tensor([image.predicted for image in plain.images])
    for layer in network.layers:
        expected = heatmaps(classifier.net, [layer], inputs, predicted[:, None], "layercam")[0, :2, 0]
        options = ExplainOptions(2, layer, "layercam")
        one_pass = classify(network, paths, options)
        assert np.allclose(stacked(one_pass, "logits"), stacked(plain, "logits"), atol=1e-6)
        for result in (one_pass, explain(network, plain, options)):
            assert [list(image.heatmaps) for image in result.images] == [*predicted[:2, None].tolist(), [], []]
            for image, of_image in zip(result.images[:2], expected.numpy(), strict=True):
                heatmap = image.heatmaps[image.predicted]
                assert heatmap.dtype == np.float32
                assert np.abs(heatmap - of_image).max() <= 1e-3


def test_predictions_include_test_time_augmentation() -> None:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 4}}
    recipe = Recipe(net, ["a", "b", "c", "d"], SIZE, [0.5] * 3, [0.01] * 3, flip_tta=True)
    torch.manual_seed(0)
    trained = TrainedClassifier.from_weights(recipe, recipe.build().state_dict())
    decoded, _ = read_images(write(10), Resizing(SIZE))
    pixels = torch.from_numpy(np.stack([image.pixels for image in decoded.values()])).permute(0, 3, 1, 2)
    trained.network.net.head[2].bias.sub_(trained.logits(pixels).mean(0))  # makes the predictions differ
    result = classify(Network(trained), write(10), ExplainOptions(10, "features", "gradcam"))
    assert np.allclose(stacked(result, "logits"), trained.logits(pixels), atol=1e-6)
    plain = trained.network.net(trained.network.preprocess(pixels)).argmax(1)
    assert plain.tolist() != [image.predicted for image in result.images]
    assert all(list(image.heatmaps) == [image.predicted] for image in result.images)


def test_a_selected_class_is_explained_in_addition_to_the_predicted_one(network: Network) -> None:
    result = classify(network, write(3))
    predicted = result.images[2].predicted
    other = (predicted + 1) % 4
    options = ExplainOptions(0, "features", "gradcam")
    found = [image.heatmaps for image in explain(network, result.select(other, 2), options).images]
    assert [list(maps) for maps in found] == [[], [], [predicted, other]]
    assert (found[2][predicted] != found[2][other]).any()
    same = explain(network, result.select(predicted, 2), options)
    assert list(same.images[2].heatmaps) == [predicted]
    assert [list(image.heatmaps)[-1] for image in explain(network, result.select(1), options).images] == [1, 1, 1]


def test_opacity_0_shows_the_image_and_opacity_1_the_heatmap() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    heatmap = np.random.default_rng(1).random((16, 16), dtype=np.float32)
    image = ImageResult(1, pixels, pixels, np.zeros(4), np.zeros(4), None, heatmaps={2: heatmap})
    [(label, plain)], [(_, opaque)] = image.overlays(0), image.overlays(1)
    assert label == 2
    assert np.array_equal(plain, pixels.repeat(14, 0).repeat(14, 1))
    assert np.array_equal(opaque, enlarge(overlay(pixels, heatmap, 1)))


def test_concurrent_calls_do_not_mix_their_results(network: Network) -> None:
    images = stacked(classify(network, write(8)), "pixels")
    classes = np.full((1, 2), 1)

    recipe = replace(network.recipe, ood_score="knn")
    training_features = F.normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    network = Network(TrainedClassifier(recipe, network._classifier, training_features))

    def run(index: int) -> tuple[np.ndarray, ...]:
        return network.run(images[index : index + 1], 1, classes, "features", "gradcam", detect=True)

    expected = [run(index) for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for index, found in zip([*range(8)] * 10, pool.map(run, [*range(8)] * 10), strict=True):
            assert all(map(np.array_equal, found, expected[index]))


def test_an_image_that_cannot_be_resized_does_not_affect_the_others(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (16000, 1)).save("line.png")
    monkeypatch.setattr(network, "recipe", replace(network.recipe, fit="pad"))
    result = classify(network, [*write(1), "line.png"])
    assert [image.number for image in result.images] == [1]
    assert result.errors[0].startswith("Image 2 cannot be read")


def test_only_the_forward_pass_borrows_a_gpu(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = []
    spaces = ModuleType("spaces")
    spaces.__spec__ = ModuleSpec("spaces", None)
    spaces.GPU = lambda function: wrapped.append(function.__name__) or function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    Network(TrainedClassifier(network.recipe, network._classifier))
    assert wrapped == ["_run"]


@pytest.mark.parametrize("value", [0, 11, 3.7, float("nan"), float("inf"), True, None, "5", [5], 1e300, 10**400])
def test_invalid_numbers_are_rejected(value: object) -> None:
    with pytest.raises(Error, match=r"Classes must be a (whole )?number from 1 to 10\."):
        check_int("Classes", value, 1, 10)


def test_valid_numbers_and_choices_are_accepted() -> None:
    assert [check_int("Classes", value, 1, 10) for value in (1, 10, 3.0)] == [1, 10, 3]
    assert check_number("Opacity", 0, 0, 1) == 0
    assert check_choice("Layer", "a", {"a": 1}) == "a"
    for value in (None, ["a"], "b", 3):
        with pytest.raises(Error, match="choose one of the available options"):
            check_choice("Layer", value, {"a": 1})


def image_result(number: int, probs: list[float], is_ood: bool | None) -> ImageResult:
    pixels = np.zeros((4, 4, 3), np.uint8)
    return ImageResult(number, pixels, pixels, np.log(probs), np.array(probs), is_ood)


def test_class_names_are_escaped() -> None:
    assert "<" not in escape("<img src=x onerror=alert(1)>")
    assert escape("a\nb | [c](javascript:d) `e` $f$") == r"a b \| \[c\](javascript:d) \`e\` \$f\$"
    link = csv_link([image_result(1, [0.5, 0.5], None)], ['"><script>', "dog"], 2)
    assert "script" not in link.replace("%3Cscript%3E", "")
    assert link.count('"') == 6


def test_more_classes_than_there_are_is_all_of_them() -> None:
    image = image_result(1, [0.25, 0.75], None)
    assert image.top_classes(["dog", "cat"], 3) == [("cat", 0.75), ("dog", 0.25)]


def test_the_table_lists_the_most_likely_classes() -> None:
    table = results_table([image_result(3, [0.25, 0.7, 0.05], True)], ["dog", "cat", "owl"], 2)
    assert table.columns.tolist() == ["image", "1", "2", "none of the classes"]
    assert table.iloc[0].tolist() == [3, "cat 70.0%", "dog 25.0%", "possibly"]
