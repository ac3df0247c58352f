"""What the Hub reads of a model card."""

import yaml
from huggingface_hub import EvalResult, ModelCardData

from cifar_lit.judged import Judged
from space.facts import digest_of, title_of
from space.report.evidence import Evidence


def front_matter(evidence: Evidence, judged: Judged | None) -> str:
    """YAML between two lines of dashes, as huggingface_hub's ModelCard takes it.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    title = title_of(evidence.trained, evidence.config)
    kind = evidence.judged_on
    results = []
    if judged is not None:
        common = {"task_type": "image-classification", "dataset_type": kind.lower(), "dataset_name": kind}
        common |= {"dataset_split": judged.split}
        values = {"accuracy": judged.accuracy, "loss": judged.loss}
        results = [
            EvalResult(**common, metric_type=name, metric_value=round(value, 6)) for name, value in values.items()
        ]
    data = ModelCardData(
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=["image-classification", "interpretability", "grad-cam"],
        metrics=["accuracy"],
        checkpoint=digest_of(evidence.run.file),
        **({"model_name": title, "eval_results": results} if results else {}),
    )
    return f"---\n{yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)}---\n\n"
