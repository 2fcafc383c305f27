"""From a trained network to files that other programs load."""

from llmnas.export.job import FORMATS, export_job, read_graph
from llmnas.export.source import exported_state, model_source

__all__ = ["FORMATS", "export_job", "exported_state", "model_source", "read_graph"]
