"""Latency of a network on a target: measured where the target is here, predicted where it is not.

`parse_target` reads what a person typed, `latency` gives one figure with its interval and its source, `predict` needs
no device, `measure_cpu`, `measure_cuda` and `interleaved` time real runs, `estimate_energy` multiplies by a power.
Nothing here imports torch until it times.
"""

from llmnas.latency.analytic import predict
from llmnas.latency.datasheet import Datasheet, datasheet, datasheets
from llmnas.latency.energy import estimate_energy
from llmnas.latency.estimate import latency, measure_job
from llmnas.latency.measure import interleaved, measure_cpu, measure_cuda
from llmnas.latency.target import Target, named, parse_target, parse_targets
from llmnas.latency.timing import Conditions, Measurement

__all__ = ["Conditions", "Datasheet", "Measurement", "Target", "datasheet", "datasheets", "estimate_energy",
           "interleaved", "latency", "measure_cpu", "measure_cuda", "measure_job", "named", "parse_target",
           "parse_targets", "predict"]
