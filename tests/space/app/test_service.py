"""What the page says of images: how they are read, classified and explained, without a browser."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from gradio.exceptions import Error
from PIL import Image

from callbacks.rendering.heatmaps import heatmaps
from callbacks.rendering.markdown import escape
from callbacks.rendering.overlay import overlay
from cifar_lit.inference.bundle import Recipe, TrainedClassifier
from space.app.network import Network
from space.app.service import Answer, ExplainOptions, classify, for_page, overlaid, read_images
from space.app.table import Prediction, predictions_link, predictions_table
from space.app.validation import check_choice, check_int, check_number


@pytest.fixture(scope="module")
def network() -> Network:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 4}}
    recipe = Recipe(net, ["cat", "dog", "owl", "<b>"], (16, 16), [0.5] * 3, [0.1] * 3, temperature=2.0)
    torch.manual_seed(0)
    return Network(TrainedClassifier.of(recipe, recipe.build().state_dict()))


def write(count: int, size: tuple[int, int] = (16, 16)) -> list[str]:
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def test_at_most_ten_images_are_classified_and_bad_ones_are_told_by_number() -> None:
    paths = write(12)
    Path(paths[1]).write_bytes(b"no image")
    images = read_images(paths, (16, 16), "crop")
    assert images.numbers == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert images.pixels.shape == (9, 16, 16, 3)
    assert [text.split(":")[0] for text in images.refused] == [
        "Image 2 cannot be read",
        "Of 12 images the first 10 are classified.",
    ]


@pytest.mark.parametrize("name", ["big.png", "drawing.svg", "page.eps", "old.tiff"])
def test_files_that_are_too_large_or_of_other_formats_are_refused(name: str) -> None:
    if name == "big.png":
        Image.new("1", (5000, 4000)).save(name)
    elif name.endswith("svg"):
        Path(name).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    else:
        Image.new("RGB", (8, 8)).save(name)
    images = read_images([name], (16, 16), "crop")
    assert images.numbers == []
    assert images.refused[0].startswith("Image 1 cannot be read")


def test_unusual_files_are_shown_as_a_person_sees_them() -> None:
    red = Image.new("RGB", (16, 16), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    left = Image.new("RGB", (16, 16), "blue")
    left.paste(red.crop((0, 0, 16, 8)), (0, 8))
    left.save("turned.png", exif=exif)
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save("clear.png")
    red.quantize(4).save("palette.png")
    red.convert("CMYK").save("cmyk.jpg", quality=100)
    red.save("moving.gif", save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")])
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save("deep.png")
    Image.new("L", (16, 16), 90).save("grey.png")
    images = read_images(
        ["turned.png", "clear.png", "palette.png", "cmyk.jpg", "moving.gif", "deep.png", "grey.png"], (16, 16), "crop"
    )
    turned, clear, palette, cmyk, moving, deep, grey = images.pixels
    assert turned[0, 0].tolist() == [255, 0, 0]
    assert turned[0, -1].tolist() == [0, 0, 255]
    assert (clear == 255).all()
    assert palette[3, 3].tolist() == [255, 0, 0]
    assert abs(cmyk[3, 3].astype(int) - [255, 0, 0]).max() < 6
    assert moving[3, 3, 0] > 250
    assert (deep == 255).all()
    assert (grey == 90).all()


def test_a_wide_image_is_cut_or_padded_as_asked() -> None:
    wide = Image.new("RGB", (32, 16), "red")
    wide.paste(Image.new("RGB", (16, 16), "blue"), (8, 0))
    wide.save("wide.png")
    cut = read_images(["wide.png"], (16, 16), "crop").pixels[0]
    padded = read_images(["wide.png"], (16, 16), "pad")
    assert (cut == [0, 0, 255]).all()
    assert (padded.pixels[0, :3] == 128).all()
    assert padded.pixels[0, 8, 0, 0] > 200
    assert padded.uploads[0].shape == (16, 32, 3)


def test_probabilities_do_not_depend_on_the_other_images(network: Network) -> None:
    """A softmax over the batch, a popular fault, would make them."""
    images = read_images(write(5), (16, 16), "crop")
    together = network.probabilities(classify(network, images).logits)
    for place in range(5):
        alone, _ = network.run(images.pixels[place : place + 1])
        assert np.allclose(network.probabilities(alone), together[place], atol=1e-6)
    assert np.allclose(together.sum(1), 1)
    assert np.allclose(together, torch.tensor(classify(network, images).logits / 2).softmax(1), atol=1e-6)


def test_heatmaps_are_those_of_the_layer_class_and_method_that_were_asked_for(network: Network) -> None:
    images = read_images(write(4), (16, 16), "crop")
    answer = classify(network, images)
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
    classifier = network._classifier
    inputs = classifier.preprocess(pixels)
    predicted = torch.from_numpy(answer.logits.argmax(1))
    for layer in network.layers:
        expected = heatmaps(classifier.net, [layer], inputs, predicted[:, None], "layercam")[0, :2, 0]
        how = ExplainOptions(2, layer, "layercam")
        together = classify(network, images, how)  # logits and heatmaps from one pass
        assert np.allclose(together.logits, answer.logits, atol=1e-6)
        for explained in (together.explained, answer.explain(network, how).explained):
            assert sorted(explained) == [0, 1]
            for place, maps in explained.items():
                assert maps.classes == [int(predicted[place])]
                assert np.abs(maps.maps[0] / 255 - expected[place].numpy()).max() <= 0.5 / 255 + 1e-3


def test_what_is_predicted_counts_the_mirror_image_where_the_network_was_judged_so() -> None:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 4}}
    recipe = Recipe(net, ["a", "b", "c", "d"], (16, 16), [0.5] * 3, [0.01] * 3, flip_tta=True)
    torch.manual_seed(0)
    trained = TrainedClassifier.of(recipe, recipe.build().state_dict())
    images = read_images(write(10), (16, 16), "crop")
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
    trained.network.net.head[2].bias.sub_(trained.logits(pixels).mean(0))  # so that the predictions differ
    answer = classify(Network(trained), images, ExplainOptions(10, "features", "gradcam"))
    assert np.allclose(answer.logits, trained.logits(pixels), atol=1e-6)
    plain = trained.network.net(trained.network.preprocess(pixels)).argmax(1)
    judged = answer.logits.argmax(1)
    assert (plain.numpy() != judged).any()
    assert [part.classes for part in answer.explained.values()] == [[label] for label in judged]


def test_another_class_is_explained_beside_the_predicted_one(network: Network) -> None:
    images = read_images(write(3), (16, 16), "crop")
    answer = classify(network, images)
    predicted = int(answer.logits[2].argmax())
    other = (predicted + 1) % 4
    how = ExplainOptions(0, "features", "gradcam")
    explained = Answer(images, answer.logits, {2: other}).explain(network, how).explained
    assert list(explained) == [2]
    assert explained[2].classes == [predicted, other]
    assert (explained[2].maps[0] != explained[2].maps[1]).any()
    same = Answer(images, answer.logits, {2: predicted}).explain(network, how)
    assert same.explained[2].classes == [predicted]


def test_opacity_0_shows_the_image_and_1_the_heatmap() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    maps = np.random.default_rng(1).integers(0, 256, (2, 16, 16), dtype=np.uint8)
    assert np.array_equal(overlaid(pixels, maps, 0)[1], for_page(pixels[None])[0])
    assert np.array_equal(overlaid(pixels, maps, 1)[1], for_page(overlay(pixels, maps[1] / 255, 1)[None])[0])


def test_asking_many_at_a_time_gives_each_its_own_answer(network: Network) -> None:
    from concurrent.futures import ThreadPoolExecutor

    images = read_images(write(8), (16, 16), "crop").pixels
    classes = np.full((1, 2), 1)

    def ask(place: int) -> tuple[np.ndarray, np.ndarray]:
        return network.run(images[place : place + 1], 1, classes, "features", "gradcam")

    alone = [ask(place) for place in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for place, (logits, maps) in zip([*range(8)] * 10, pool.map(ask, [*range(8)] * 10), strict=True):
            assert np.array_equal(logits, alone[place][0])
            assert np.array_equal(maps, alone[place][1])


def test_an_image_that_cannot_be_made_to_fit_costs_itself_only() -> None:
    Image.new("RGB", (16000, 1)).save("line.png")
    images = read_images([*write(1), "line.png"], (16, 16), "pad")
    assert images.numbers == [1]
    assert images.refused[0].startswith("Image 2 cannot be read")


def test_a_gpu_is_borrowed_for_the_one_function_that_computes(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = []
    spaces = ModuleType("spaces")
    spaces.__spec__ = ModuleSpec("spaces", None)
    spaces.GPU = lambda function: lent.append(function.__name__) or function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    Network(TrainedClassifier(network.recipe, network._classifier))
    assert lent == ["_run"]


@pytest.mark.parametrize("value", [0, 11, 3.7, float("nan"), float("inf"), True, None, "5", [5], 1e300, 10**400])
def test_a_number_out_of_its_limits_is_refused_whoever_sends_it(value: object) -> None:
    with pytest.raises(Error, match=r"Classes must be a (whole )?number from 1 to 10\."):
        check_int("Classes", value, 1, 10)


def test_numbers_and_choices_within_their_limits_are_taken() -> None:
    assert [check_int("Classes", value, 1, 10) for value in (1, 10, 3.0)] == [1, 10, 3]
    assert check_number("Opacity", 0, 0, 1) == 0
    assert check_choice("Layer", "a", {"a": 1}) == "a"
    for value in (None, ["a"], "b", 3):
        with pytest.raises(Error, match="choose one of those"):
            check_choice("Layer", value, {"a": 1})


def test_names_cannot_break_out_of_a_page() -> None:
    assert "<" not in escape("<img src=x onerror=alert(1)>")
    assert escape("a\nb | [c](javascript:d) `e` $f$") == r"a b \| \[c\](javascript:d) \`e\` \$f\$"
    link = predictions_link([Prediction(1, [('"><script>', 0.5)], None)])
    assert "script" not in link.replace("%3Cscript%3E", "")
    assert link.count('"') == 6


def test_the_table_lists_what_was_asked_for() -> None:
    table = predictions_table([Prediction(3, [("cat", 0.75), ("dog", 0.25)], True)])
    assert table.columns.tolist() == ["image", "1", "2", "none of the classes"]
    assert table.iloc[0].tolist() == [3, "cat 75.0%", "dog 25.0%", "probably"]
