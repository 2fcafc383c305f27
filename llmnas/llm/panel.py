"""Several models behind one: whoever is asked next is for the caller to choose, by what each has brought so far."""

from __future__ import annotations

from collections.abc import Sequence

from llmnas.errors import InputError
from llmnas.llm.base import CallFailed, ChatModel, JsonSchema, Message, Reply
from llmnas.records import JOIN


class Panel(ChatModel):
    """Two or more models that share the calls of a run.

    It can be asked like one model: the first that is not lost answers. A caller that keeps account of what each brings
    asks `members` one by one.

    Args:
        members: The models; their names differ.

    Attributes:
        members: Likewise.

    Raises:
        InputError: Two have the same name, so that nobody could tell who answered.
    """

    def __init__(self, members: Sequence[ChatModel]) -> None:
        names = [model.name for model in members]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"the language model {twice[0]} is named twice",
                             "name each --llm once; mocks differ by seed")
        self.members = tuple(members)
        self.name = JOIN.join(names)
        self.offline = any(model.offline for model in members)
        self.instant = all(model.instant for model in members)
        self.reason = "; ".join(f"{model.name}: {model.reason}" for model in members if model.reason)

    @property
    def priced(self) -> bool:  # type: ignore[override]  # computed: a price may depend on the endpoint
        """Whether the replies of all carry their price."""
        return all(model.priced for model in self.members)

    def chat(self, messages: Sequence[Message], schema: JsonSchema | None, seed: int,
             deadline: float | None = None) -> Reply:
        """Returns the answer of the first member that is not lost; see `ChatModel.chat`."""
        lost: CallFailed | None = None
        for model in self.members:
            try:
                return model.chat(messages, schema, seed, deadline)
            except CallFailed as failure:
                if not failure.permanent:
                    raise
                lost = failure
        assert lost is not None
        raise lost

    def take_notices(self) -> tuple[str, ...]:
        """Returns the notices of all."""
        return tuple(notice for model in self.members for notice in model.take_notices())

    def close(self) -> None:
        """Closes all; safe to call twice."""
        for model in self.members:
            model.close()


def members_of(model: ChatModel) -> tuple[ChatModel, ...]:
    """Returns the models of a panel, or the one model."""
    found: tuple[ChatModel, ...] = getattr(model, "members", (model,))
    return found
