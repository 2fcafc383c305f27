"""Paired comparison of searches: the same seeds for every arm, the whole trajectory, and what may be concluded from it.

Nothing here searches. `llmnas.bench.comparing` runs arms on tables, `llmnas.bench.launching` on real data, and
`llmnas.compare.runs` reads finished runs; all hand over one `Trajectory` per arm and seed.
"""

from llmnas.compare.analysis import ANYTIME, TEST, VALIDATION, Measure, analyse
from llmnas.compare.trajectory import Answers, Arm, Charges, Paid, Trajectory, parse_arms

__all__ = ["ANYTIME", "TEST", "VALIDATION", "Answers", "Arm", "Charges", "Measure", "Paid", "Trajectory", "analyse",
           "parse_arms"]
