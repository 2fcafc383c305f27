"""Two networks designed by hand, as graphs of the spaces."""

from __future__ import annotations

from typing import Final

from llmnas.graph import ArchGraph, Node


def resnet8() -> ArchGraph:
    """Returns a ResNet-8 (arXiv 1512.03385, section 4.2, n = 1): basic blocks of 16, 32 and 64 channels."""
    def block(name: str, source: str, channels: int, stride: int) -> Node:
        return Node(id=name, op="basic", inputs=(source,), channels=channels, kernel=3, stride=stride, depth=1,
                    se=False)

    return ArchGraph(space="convnet", output="s3", nodes=(
        Node(id="stem", op="stem", inputs=("input",), channels=16, kernel=3, stride=1),
        block("s1", "stem", 16, 1), block("s2", "s1", 32, 2), block("s3", "s2", 64, 2)))


def mobilenet_v2_half() -> ArchGraph:
    """Returns MobileNetV2 at half width (arXiv 1801.04381, table 2) with the strides usual for 32x32 images.

    Stages of the paper's 16, 24, 32 and 160 channels, halved and rounded to multiples of 8; the stages of 64, 96 and
    320 channels are left out, because the space has four stages; the head keeps its 1280 channels, as in the paper.
    """
    def stage(name: str, source: str, channels: int, depth: int, expand: int, stride: int) -> Node:
        return Node(id=name, op="inverted", inputs=(source,), channels=channels, kernel=3, stride=stride, depth=depth,
                    expand=expand, se=False)

    return ArchGraph(space="mbconv", output="head", nodes=(
        Node(id="stem", op="stem", inputs=("input",), channels=16, kernel=3, stride=1),
        stage("s1", "stem", 8, 1, 1, 1), stage("s2", "s1", 16, 2, 6, 2), stage("s3", "s2", 32, 4, 6, 2),
        stage("s4", "s3", 80, 3, 6, 2),
        Node(id="head", op="conv_block", inputs=("s4",), channels=1280, kernel=1, stride=1)))


BASELINES: Final = {"resnet8": resnet8, "mobilenetv2_half": mobilenet_v2_half}
