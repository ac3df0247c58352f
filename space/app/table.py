"""The answers as a table, and as a CSV to download."""

import csv
import io
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pandas as pd

from cifar_lit.evaluation.ood import OODThreshold
from space.app.network import Network, flagged
from space.app.service import Answer


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    number: Of the image, among the uploads.
    likeliest: Classes with their calibrated confidences, the likeliest first.
    strange: Whether it is probably none of the classes; None where that is not known.
    """

    number: int
    likeliest: list[tuple[str, float]]
    strange: bool | None


def predictions_of(answer: Answer, network: Network, unknown: OODThreshold | None, top: int) -> list[Prediction]:
    """The likeliest classes of each image, ``top`` of them."""
    shares = network.probabilities(answer.logits)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    return [
        Prediction(
            number,
            [(network.class_names[label], float(share[label])) for label in labels],
            None if unknown is None else flag,
        )
        for number, labels, share, flag in zip(
            answer.images.numbers, order, shares, flagged(unknown, answer.logits), strict=True
        )
    ]


def as_json(prediction: Prediction) -> dict[str, object]:
    """The prediction for a program."""
    return {
        "image": prediction.number,
        "classes": [{"class": name, "confidence": share} for name, share in prediction.likeliest],
        "probably_none_of_the_classes": prediction.strange,
    }


def predictions_table(predictions: list[Prediction]) -> pd.DataFrame:
    """A row for each image, for the page."""
    rows = []
    for prediction in predictions:
        row: dict[str, object] = {"image": prediction.number}
        row |= {str(rank): f"{name} {share:.1%}" for rank, (name, share) in enumerate(prediction.likeliest, start=1)}
        if prediction.strange is not None:
            row["none of the classes"] = "probably" if prediction.strange else ""
        rows.append(row)
    return pd.DataFrame(rows)


def predictions_link(predictions: list[Prediction]) -> str:
    """HTML with a link that holds the predictions as a CSV, so that nothing has to be kept on the server."""
    text = io.StringIO()
    writer = csv.writer(text)
    ranks = range(1, len(predictions[0].likeliest) + 1)
    columns = (f"{column}_{rank}" for rank in ranks for column in ("class", "probability"))
    writer.writerow(["image", *columns, "probably_none_of_the_classes"])
    for prediction in predictions:
        cells = [cell for name, share in prediction.likeliest for cell in (name, f"{share:.6f}")]
        writer.writerow([prediction.number, *cells, "" if prediction.strange is None else prediction.strange])
    address = f"data:text/csv;charset=utf-8,{quote(text.getvalue())}"
    return f'<a class="download" download="predictions.csv" href="{address}">Download as CSV</a>'
