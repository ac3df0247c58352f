import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginEventAccumulator,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from callbacks.rendering.charts import COLORS
from tests.support.program import Outcome
from tests.support.runs import events, pictures, texts

Fit = Callable[..., Path]


def picture(accumulator: EventAccumulator, tag: str) -> np.ndarray:
    [image] = accumulator.Images(tag)
    return np.asarray(Image.open(BytesIO(image.encoded_image_string)).convert("RGB"))


def text(accumulator: EventAccumulator, tag: str) -> str:
    [event] = accumulator.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_a_run_is_one_row_and_its_curves_are_in_groups(fit: Fit) -> None:
    run = fit("curves", "--trainer.max_epochs", 3)
    assert [path.parent for path in run.rglob("events*")] == [run]  # TensorBoard lists each folder as a run
    accumulator = events(run)
    for tag in ("0_curves/loss/train", "0_curves/loss/val", "0_curves/accuracy/val", "per_class/zero/val"):
        assert [event.step for event in accumulator.Scalars(tag)] == [17, 34, 51]
    for tag in ("loss_step/train", "lr-SGD"):
        assert [event.step for event in accumulator.Scalars(tag)] == [10, 20, 30, 40, 50]
    tags = accumulator.Tags()
    groups = dict.fromkeys(tag.partition("/")[0] for tag in sorted([*tags["scalars"], *tags["images"]]))
    assert list(groups)[:4] == ["0_curves", "1_results", "2_mistakes", "3_data"]  # TensorBoard opens the first two
    assert "custom_scalars__config__" in accumulator.Tags()["tensors"]


def test_epochs_shorter_than_the_logging_interval_are_logged_more_often(fit: Fit) -> None:
    run = fit("short", "--trainer.log_every_n_steps", 50)  # 17 steps per epoch
    assert [event.step for event in events(run).Scalars("loss_step/train")] == list(range(1, 18))


def test_accuracies_of_all_classes_share_a_chart(fit: Fit) -> None:
    run = fit("classes", "--trainer.max_epochs", 2)
    accumulator = events(run)
    tags = [tag for tag in accumulator.Tags()["scalars"] if tag.startswith("per_class/")]
    assert len(tags) == 10
    assert all(0 <= accumulator.Scalars(tag)[-1].value <= 1 for tag in tags)
    chart = pictures(run, "1_results/val/accuracy of each class")[34]
    drawn = {tuple(color) for color in np.unique(chart.reshape(-1, 3), axis=0).tolist()}
    assert {tuple(bytes.fromhex(color[1:])) for color in COLORS} <= drawn  # one for each class


def test_model_summary_has_rows_shapes_and_the_total(fit: Fit) -> None:
    table = text(events(fit("summary")), "3_data/network")
    assert "| model.net.features.0 | Conv2d | 432 | [2, 3, 32, 32] | [2, 16, 16, 16] |" in table
    assert "**5,466 parameters, all trainable**" in table


def test_class_counts_match_the_splits(fit: Fit) -> None:
    accumulator = events(fit("counts"))
    assert picture(accumulator, "3_data/class counts").std() > 0
    table = text(accumulator, "3_data/class counts")
    assert "| zero | 101 | 39 |" in table
    assert "| **all** | **1029** | **386** |" in table


def test_training_samples_are_augmented_as_in_training(fit: Fit) -> None:
    plain = picture(events(fit("plain", "--data.augment", "[]")), "3_data/training samples")
    cut = '[{"class_path": "Cutout", "init_args": {"size": 32}}]'  # covers the whole image with the mean color
    covered = picture(events(fit("covered", "--data.augment", cut)), "3_data/training samples")
    assert plain.shape == covered.shape
    tile = (slice(10, 100), slice(10, 100))
    assert plain[tile].std() > 20
    assert covered[tile].std() == 0
    assert abs(int(covered[tile][0, 0, 0]) - 77) <= 2  # the digits' mean, 0.303


def test_hyperparameters_are_logged_with_the_validation_metrics(fit: Fit) -> None:
    accumulator = events(fit("hparams"))
    content = accumulator.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == ["0_curves/accuracy/val", "0_curves/loss/val"]
    session = HParamsPluginData.FromString(
        accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info.hparams
    assert session["batch_size"].number_value == 64
    assert session["net"].string_value == "TinyNet"
    assert session["optimizer.momentum"].number_value == 0.9


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_logs_at_the_trained_step(command: str, fit: Fit, program: Callable[..., Outcome]) -> None:
    run = fit("evaluated", "--trainer.max_epochs", 2)
    for file in run.glob("events*"):
        file.unlink()
    outcome = program(command, "--ckpt_path", run / "checkpoints" / "last.ckpt")
    assert outcome.status == 0
    if command == "validate":
        assert [event.step for event in events(run).Scalars("0_curves/accuracy/val")] == [34]
    else:  # single numbers, which would be curves of one point
        assert not events(run).Tags()["scalars"]
        [(step, table)] = texts(run, "1_results/test/metrics").items()
        assert step == 34
        [accuracy] = re.findall(r"\| accuracy \| ([\d.]+) \|", table)
        assert accuracy in outcome.out


def test_after_resumes_both_readers_show_each_step_once(fit: Fit, program: Callable[..., Outcome]) -> None:
    run = fit("resumed", "--trainer.max_epochs", 4, "--last_checkpoint.every_n_steps", 20)
    early = shutil.copy(run / "checkpoints" / "previous.ckpt", run / "checkpoints" / "early.ckpt")
    for _ in range(2):
        outcome = program("fit", "--ckpt_path", early)
        assert outcome.status == 0, outcome.err
    read, old_read = PluginEventAccumulator(str(run), {"tensors": 0}).Reload(), events(run)
    found = {tag: [event.step for event in read.Tensors(tag)] for tag in read.Tags()["tensors"]}
    assert found["2_mistakes/val/misclassified/text_summary"] == found["0_curves/loss/val"] == [17, 34, 51, 68]
    tags = old_read.Tags()
    found |= {f"{tag}, scalar": [event.step for event in old_read.Scalars(tag)] for tag in tags["scalars"]}
    found |= {f"{tag}, picture": [event.step for event in old_read.Images(tag)] for tag in tags["images"]}
    for tag, steps in found.items():
        assert steps == sorted(set(steps)), tag
