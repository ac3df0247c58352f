"""What the Hub reads of a model card."""

import yaml
from huggingface_hub import EvalResult, ModelCardData

from cifar_lit.evaluation.result import EvaluationResult
from space.export.run_data import RunData
from space.export.run_metadata import digest_of


def front_matter(evidence: RunData, judged: EvaluationResult | None) -> str:
    """YAML between two lines of dashes, as huggingface_hub's ModelCard takes it.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    title = evidence.title
    kind = evidence.judged_on
    values = {} if judged is None else {"accuracy": judged.accuracy, "loss": judged.loss}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=kind.lower(),
            dataset_name=kind,
            dataset_split=evidence.last.split,
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in values.items()
    ]
    data = ModelCardData(
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=["image-classification", "interpretability", "grad-cam"],
        metrics=["accuracy"],
        checkpoint=digest_of(evidence.run.file),
        model_name=title if results else None,
        eval_results=results or None,
    )
    return f"---\n{yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)}---\n\n"
