"""A module as an ONNX program, for export and for timing in ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from llmnas.errors import ONNX_PACKAGES, need_extra
from llmnas.network import Shape

INPUT: Final = "images"
OUTPUT: Final = "logits"


def onnx_program(module: nn.Module, input_shape: Shape, batch: int | None = None) -> torch.onnx.ONNXProgram:
    """Returns the ONNX program of a module in eval mode, with input `INPUT` and output `OUTPUT`.

    Args:
        module: What to export.
        input_shape: Shape of one example.
        batch: Examples per call; None leaves it free.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    need_extra("ONNX export", "onnx", *ONNX_PACKAGES)
    free = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    with quiet_exporters():
        program = torch.onnx.export(module, (example(input_shape, batch or 2),), dynamo=True, external_data=False,
                                    input_names=[INPUT], output_names=[OUTPUT], verbose=False, dynamic_shapes=free)
    assert program is not None
    return program


def save_onnx(program: torch.onnx.ONNXProgram, path: Path) -> None:
    """Writes a program with its weights into one file."""
    with quiet_exporters():
        program.save(path, external_data=False)


def example(input_shape: Shape, batch: int) -> Tensor:
    """Returns random input: a batch of examples, the same every time."""
    return torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(batch))


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Hides what the exporters say about their own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
