"""Tags of curves, pictures and texts in TensorBoard, which sorts and groups them by their beginning."""

SPLITS = ("train", "val", "test")
CURVES, RESULTS, MISTAKES, DATA = "0_curves", "1_results", "2_mistakes", "3_data"  # in reading order
FIRST_CURVES = ("accuracy", "loss")


def curve_tag(name: str) -> str:
    """Return the tag of a metric: loss and accuracy first, and the splits of each metric side by side.

    >>> curve_tag("val/loss"), curve_tag("val/temperature"), curve_tag("lr-SGD")
    ('0_curves/loss/val', 'temperature/val', 'lr-SGD')
    """
    split, slash, metric = name.partition("/")
    group = f"{CURVES}/" if metric in FIRST_CURVES else ""
    return f"{group}{metric}/{split}" if slash and split in SPLITS else name
