"""A space of 729 cells, small enough to make up a whole table of it."""

SPACE = """
name: toy
title: "729 cells"
why: tests
source: none
input: image
shape: [3, 32, 32]
classes: 10
cell:
  nodes: 4
  ops: [none, skip_connect, nor_conv_3x3]
skeleton: {kind: nb201, channels: 4, cells: 1, stages: 3}
rules: []
"""
