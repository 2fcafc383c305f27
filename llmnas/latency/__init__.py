"""Latency of a network on a target: measured where the target is here, predicted where it is not.

`parse_target` reads what a person typed, `latency` gives one figure with its interval and its source, `predict` needs
no device, `measure_cpu`, `measure_cuda` and `interleaved` time real runs. Energy is read (`measure_energy`), fitted
(`fit_energy`) or estimated (`estimate_energy`). Nothing here imports torch until it times; `llmnas.latency.trace`,
which predicts any torch module, does.
"""

from llmnas.latency.analytic import predict
from llmnas.latency.datasheet import Datasheet, datasheet, datasheets
from llmnas.latency.energy import EnergyModel, estimate_energy, fit_energy
from llmnas.latency.estimate import latency, measure_job
from llmnas.latency.measure import interleaved, measure_cpu, measure_cuda
from llmnas.latency.metering import EnergyMeasurement, find_meter, measure_energy, meter_network
from llmnas.latency.meters import Meter, MeterState, NoCounter, available_meters
from llmnas.latency.target import Target, named, need_runtime, parse_target, parse_targets
from llmnas.latency.timing import Conditions, Measurement

__all__ = ["Conditions", "Datasheet", "EnergyMeasurement", "EnergyModel", "Measurement", "Meter", "MeterState",
           "NoCounter", "Target", "available_meters", "datasheet", "datasheets", "estimate_energy", "find_meter",
           "fit_energy", "interleaved", "latency", "measure_cpu", "measure_cuda", "measure_energy", "measure_job",
           "meter_network", "named", "need_runtime", "parse_target", "parse_targets",
           "predict"]
