"""The contract of a space, as a test class: subclass it and name the space; see docs/plugins.md."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from llmnas.graph import ArchGraph
from llmnas.space import Space, load_space, parse_graph


class SpaceContract:
    """What strategies, screening and prompts rely on. Set `name` to a name or a path.

    Attributes:
        name: The space under test, as `--space` takes it.
        designs: Known-good designs it has at least; a small space has fewer.
    """

    name = ""
    designs = 10

    @pytest.fixture
    def space(self) -> Space:
        """The space under test."""
        return load_space(self.name)

    @pytest.fixture
    def graphs(self, space: Space) -> list[ArchGraph]:
        """Some random graphs."""
        rng = np.random.default_rng(7)
        return [space.sample(rng) for _ in range(25)]

    def test_draws_are_legal_and_differ(self, space: Space, graphs: list[ArchGraph]) -> None:
        """Every draw validates, and they are not all one."""
        assert not [issue for graph in graphs for issue in space.validate(graph)]
        assert len({graph.key() for graph in graphs}) > 10

    def test_mutation_is_legal_and_differs(self, space: Space, graphs: list[ArchGraph]) -> None:
        """A mutation validates and is another graph."""
        rng = np.random.default_rng(8)
        for graph in graphs:
            child = space.mutate(graph, rng)
            assert not space.validate(child)
            assert child != graph

    def test_crossover_is_legal(self, space: Space, graphs: list[ArchGraph]) -> None:
        """A mix of two graphs validates."""
        rng = np.random.default_rng(9)
        children = [space.crossover(left, right, rng) for left, right in pairwise(graphs)]
        assert not [issue for child in children for issue in space.validate(child)]

    def test_neighbours_are_legal_and_differ(self, space: Space, graphs: list[ArchGraph]) -> None:
        """Every neighbour validates and differs from the graph."""
        for graph in graphs[:3]:
            near = list(space.neighbours(graph))
            assert near
            assert graph not in near
            assert not [issue for other in near for issue in space.validate(other)]

    def test_encoding_has_one_length_and_tells_apart(self, space: Space, graphs: list[ArchGraph]) -> None:
        """Vectors have one length and are finite; a mutation moves the vector of most graphs."""
        rng = np.random.default_rng(10)
        vectors = [space.encode(graph) for graph in graphs]
        assert len({vector.shape for vector in vectors}) == 1
        assert np.isfinite(vectors).all()
        mutated = [space.encode(space.mutate(graph, rng)) for graph in graphs]
        assert np.mean([not np.array_equal(*pair) for pair in zip(vectors, mutated, strict=True)]) > 0.6

    def test_prior_is_legal_unique_and_rises(self, space: Space) -> None:
        """Known-good designs validate, are distinct functions, and come in order of cost."""
        designs = space.prior()
        costs = [space.network(graph).counts.macs for graph in designs]
        assert len(designs) >= self.designs
        assert len({graph.key() for graph in designs}) == len(designs)
        assert costs == sorted(costs)

    def test_json_round_trip(self, space: Space, graphs: list[ArchGraph]) -> None:
        """A graph written as JSON and read back is the same, with the same key."""
        for graph in graphs:
            again, issues = parse_graph(graph.model_dump(mode="json"), space.name)
            assert not issues
            assert again == graph
            assert again is not None
            assert again.key() == graph.key()

    def test_wire_schema_is_portable(self, space: Space) -> None:
        """The schema uses the keywords that every server takes, and requires every field."""
        allowed = {"type", "properties", "required", "additionalProperties", "items", "enum", "description"}

        def walk(node: dict[str, object]) -> None:
            assert set(node) <= allowed
            properties = node.get("properties")
            if isinstance(properties, dict):
                assert node["required"] == list(properties)
                assert node["additionalProperties"] is False
                for child in properties.values():
                    walk(child)
            if isinstance(node.get("items"), dict):
                walk(node["items"])  # type: ignore[arg-type]

        walk(space.wire_schema())
