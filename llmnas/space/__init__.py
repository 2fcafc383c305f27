"""Search spaces: what may be proposed, and how a proposal becomes a network."""

from llmnas.space.digits import Digits
from llmnas.space.loading import list_spaces, load_space
from llmnas.space.space import Space
from llmnas.space.spec import Slot, SpaceSpec
from llmnas.space.wire import parse_graph, read_proposals

__all__ = ["Digits", "Slot", "Space", "SpaceSpec", "list_spaces", "load_space", "parse_graph", "read_proposals"]
