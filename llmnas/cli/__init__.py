"""The command line: parse, call, print. stdout is the answer, stderr everything else."""

from llmnas.cli.app import main

__all__ = ["main"]
