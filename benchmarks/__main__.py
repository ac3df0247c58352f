"""python -m benchmarks NAME: measures, and prints a table in Markdown."""

from jsonargparse import auto_cli

from benchmarks.explanations import explanations
from benchmarks.faithfulness import faithfulness
from benchmarks.overhead import overhead
from benchmarks.space import space

if __name__ == "__main__":
    auto_cli([explanations, faithfulness, overhead, space], as_positional=False)
