"""Latency of a network on a target: measured where the target is here, predicted where it is not.

`parse_target` reads what a person typed, `latency` gives one figure with its interval and its source, `predict` needs
no device, `measure_cpu`, `measure_cuda` and `interleaved` time real runs. Nothing here imports torch until it times.
"""

from llmnas.latency.analytic import predict
from llmnas.latency.datasheet import Datasheet, datasheet, datasheets
from llmnas.latency.estimate import latency, measure_job
from llmnas.latency.measure import interleaved, measure_cpu, measure_cuda
from llmnas.latency.target import Target, parse_target
from llmnas.latency.timing import Conditions, Measurement

__all__ = ["Conditions", "Datasheet", "Measurement", "Target", "datasheet", "datasheets", "interleaved", "latency",
           "measure_cpu", "measure_cuda", "measure_job", "parse_target", "predict"]
