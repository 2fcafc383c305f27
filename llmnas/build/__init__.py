"""From a network as data to a torch module."""

from llmnas.build.module import Net, build

__all__ = ["Net", "build"]
