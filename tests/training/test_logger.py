from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.support.program import Outcome
from tests.support.runs import events

Fit = Callable[..., Path]


def picture(accumulator: EventAccumulator, tag: str) -> np.ndarray:
    [image] = accumulator.Images(tag)
    return np.asarray(Image.open(BytesIO(image.encoded_image_string)).convert("RGB"))


def text(accumulator: EventAccumulator, tag: str) -> str:
    [event] = accumulator.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def test_training_and_validation_share_a_chart(fit: Fit) -> None:
    run = fit("curves", "--trainer.max_epochs", 3)
    train, val = events(run / "train"), events(run / "val")
    for tag in ("loss", "accuracy"):  # TensorBoard draws equal tags of sub-runs in one chart
        for accumulator in (train, val):
            assert [event.step for event in accumulator.Scalars(tag)] == [21, 42, 63]
    assert [event.step for event in train.Scalars("loss_step")] == [10, 20, 30, 40, 50, 60]
    assert [event.step for event in events(run).Scalars("lr-SGD")] == [10, 20, 30, 40, 50, 60]


def test_epochs_shorter_than_the_logging_interval_are_logged_more_often(fit: Fit) -> None:
    run = fit("short", "--trainer.log_every_n_steps", 50)  # 21 steps per epoch
    assert [event.step for event in events(run / "train").Scalars("loss_step")] == list(range(2, 22, 2))


def test_accuracies_of_all_classes_share_a_chart(fit: Fit) -> None:
    run = fit("classes")
    tags = [tag for tag in events(run / "val").Tags()["scalars"] if tag.startswith("class_accuracy/")]
    assert len(tags) == 10
    accuracies = [events(run / "val").Scalars(tag)[-1].value for tag in tags]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    assert "custom_scalars__config__" in events(run).Tags()["tensors"]


def test_model_summary_has_rows_shapes_and_the_total(fit: Fit) -> None:
    table = text(events(fit("summary")), "model")
    assert "| model.net.features.0 | Conv2d | 432 | [2, 3, 32, 32] | [2, 16, 16, 16] |" in table
    assert "**5,466 parameters, 5,466 of them trainable**" in table


def test_class_counts_match_the_splits(fit: Fit) -> None:
    accumulator = events(fit("counts"))
    assert picture(accumulator, "your run/class counts").std() > 0
    table = text(accumulator, "class counts")
    assert "| zero | 128 | 14 |" in table
    assert "| **all** | **1294** | **144** |" in table


def test_training_samples_are_augmented_as_in_training(fit: Fit) -> None:
    plain = picture(events(fit("plain", "--data.augment", "[]")), "your run/training samples")
    cut = '[{"class_path": "Cutout", "init_args": {"size": 32}}]'  # covers the whole image with the mean color
    covered = picture(events(fit("covered", "--data.augment", cut)), "your run/training samples")
    assert plain.shape == covered.shape
    tile = (slice(10, 100), slice(10, 100))
    assert plain[tile].std() > 20
    assert covered[tile].std() == 0
    assert abs(int(covered[tile][0, 0, 0]) - 77) <= 2  # the digits' mean, 0.303


def test_hyperparameters_are_logged_with_the_validation_metrics(fit: Fit) -> None:
    accumulator = events(fit("hparams"))
    content = accumulator.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert {(metric.name.group, metric.name.tag) for metric in experiment.metric_infos} == {
        ("val", "accuracy"),
        ("val", "loss"),
    }
    session = HParamsPluginData.FromString(
        accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info.hparams
    assert session["batch_size"].number_value == 64
    assert session["net"].string_value == "TinyNet"
    assert session["optimizer.momentum"].number_value == 0.9


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_logs_at_the_trained_step(command: str, fit: Fit, program: Callable[..., Outcome]) -> None:
    run = fit("evaluated", "--trainer.max_epochs", 2)
    before = set(run.rglob("events*"))
    assert program(command, "--ckpt_path", run / "checkpoints" / "last.ckpt").status == 0
    split = {"validate": "val", "test": "test"}[command]
    new = [file for file in run.rglob(f"{split}/events*") if file not in before]
    accumulator = events(new[0])
    assert [event.step for event in accumulator.Scalars("accuracy")] == [42]
    assert [event.step for event in accumulator.Scalars("class_accuracy/zero")] == [42]
