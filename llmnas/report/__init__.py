"""A run for people: console, page, drawings, model card, and the answers of ``llmnas show``.

Everything is read from a `RunState`. Importing this package imports neither torch, rich, jinja2 nor scipy.
"""

from llmnas.report.card import model_card, summary, summary_json, trial_json, trial_text
from llmnas.report.console import Console, open_console
from llmnas.report.draw import to_mermaid, to_svg, to_text
from llmnas.report.html import write_report

__all__ = ["Console", "model_card", "open_console", "summary", "summary_json", "to_mermaid", "to_svg", "to_text",
           "trial_json", "trial_text", "write_report"]
