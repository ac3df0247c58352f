"""Model card metadata of a report, for the Hugging Face Hub."""

from huggingface_hub import EvalResult, ModelCardData

from space.export.run_data import RunData


def front_matter(run: RunData) -> str:
    """Return YAML front matter, as huggingface_hub's ModelCard reads it.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    result = run.evaluate(max_mistakes=0) if run.splits else None
    metrics = {} if result is None else {"accuracy": result.accuracy, "loss": result.loss}
    eval_results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=run.evaluated_on.lower(),
            dataset_name=run.evaluated_on,
            dataset_split=run.eval_split.name,
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in metrics.items()
    ]
    data = ModelCardData(
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=["image-classification", "interpretability", "grad-cam"],
        metrics=["accuracy"],
        checkpoint=run.digest,
        model_name=run.title if eval_results else None,
        eval_results=eval_results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"
