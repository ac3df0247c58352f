"""Measure and print a Markdown table: ``python -m benchmarks [NAME]``; without a name, measure training speed."""

import sys

from jsonargparse import auto_cli

from benchmarks.accuracy import accuracy
from benchmarks.explanations import explanations
from benchmarks.faithfulness import faithfulness
from benchmarks.finetune import finetune
from benchmarks.label_noise import label_noise
from benchmarks.overhead import overhead
from benchmarks.reliability import reliability
from benchmarks.space import space
from benchmarks.speed import speed

if __name__ == "__main__":
    # accept --quick as a flag; auto_cli requires a value
    arguments = ["--quick=true" if argument == "--quick" else argument for argument in sys.argv[1:]]
    if not arguments or (arguments[0].startswith("--") and arguments[0] != "--help"):
        arguments.insert(0, "speed")
    commands = [speed, accuracy, explanations, faithfulness, finetune, label_noise, overhead, reliability, space]
    auto_cli(commands, args=arguments, as_positional=False)
