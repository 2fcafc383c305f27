"""Hidden names: nothing betrays them on the way out, nothing is lost on the way back, and the mock knows nothing."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmnas.agent import Agent, preview
from llmnas.agent.agent import AgentOptions
from llmnas.agent.briefing import Request
from llmnas.agent.disguise import ABOUT, TITLE, Disguise, disguise_of
from llmnas.graph import ATTRIBUTES
from llmnas.llm.mock import Dials, MockModel
from llmnas.ops import OPS
from llmnas.prompts import ROLES, PromptSet, load_prompt
from llmnas.records import Rule, Settings
from llmnas.space import list_spaces, load_space, parse_graph, read_proposals
from llmnas.testing.strategy import context, measured

SPACES = list_spaces()
BETRAY = {*OPS, *ATTRIBUTES}
ANONYMOUS = load_prompt("anonymous")
ALONE = AgentOptions(surrogate=False, operators=False)


def words(text):
    return set(re.findall(r"[A-Za-z0-9_]+", text))


def graph_like(wire):
    """The part of a proposal that is a graph."""
    return {"nodes": wire["nodes"], "output": wire["output"]}


def agent(model, space="nb201", prompts=ANONYMOUS, seed=0, **more):
    scene = preview.example(load_space(space))
    own = Settings(space=space, seed=seed, **more)
    return Agent(replace(scene.setup, model=model, prompts=prompts, settings=own), ALONE)


def ask(made, n, ctx, seed=0):
    """All that is asked for comes from the model."""
    return made.ask(n, np.random.default_rng(seed), replace(ctx, trains=n))


class Spy(MockModel):
    """The mock, which keeps what it is asked: messages and schema."""

    def __init__(self, **dials):
        super().__init__(0, Dials(**dials))
        self.asked = []

    def chat(self, messages, schema, seed, deadline=None):
        self.asked.append((messages, schema))
        return super().chat(messages, schema, seed, deadline)


@pytest.mark.parametrize("prompt", ["anonymous", "anonymous:facts=yes"])
@pytest.mark.parametrize("name", SPACES)
def test_nothing_betrays_a_name(name, prompt):
    """No true op, attribute, space, title, gloss or rule in any message of any role, nor in the schema."""
    space, prompts = load_space(name), load_prompt(prompt)
    described = space.describe()
    scene = preview.example(space)
    texts = ["".join(message.content for message in preview.next_messages(moment, prompts, role))
             for role in ROLES for moment in (scene, replace(scene, setup=replace(
                 scene.setup, settings=Settings(space=name, seed=3))))]
    spy = Spy()
    ask(agent(spy, name, prompts), 4, context(1, scene.trials))
    texts += [json.dumps(schema) for _, schema in spy.asked]
    for text in texts:
        assert not words(text) & {*BETRAY, name}
        assert not any(said in text for said in (described["title"], described["about"], *described["rules"],
                                                 *described["ops"].values()))


@pytest.mark.parametrize("name", SPACES)
def test_issues_betray_no_name(name):
    """Faults of every kind, told and sent back to be repaired, name nothing: advice on ops and attributes included."""
    space, rng = load_space(name), np.random.default_rng(0)
    made = agent(Spy(), name)
    spoilt, codes = [], set()
    for _ in range(40):
        value = json.loads(space.sample(rng).to_json())
        node = value["nodes"][rng.integers(len(value["nodes"]))]
        fault = rng.integers(5)
        if fault == 0:
            node["op"] = str(rng.choice(sorted(OPS)))
        elif fault == 1:
            node["inputs"] = [*node["inputs"], "input", "input"]
        elif fault == 2:
            node[str(rng.choice(ATTRIBUTES))] = 13
        elif fault == 3:
            for attribute in ATTRIBUTES:
                node.pop(attribute, None)
        else:
            value["nodes"].remove(node)
        graph, issues = parse_graph(value, name)
        issues = issues or (space.validate(graph) if graph else [])
        codes |= {issue.code for issue in issues}
        spoilt += [({"nodes": value["nodes"]}, issues)] if issues else []
    assert {"unknown_op", "arity"} <= codes
    found = made.dialogue.briefing.repair(spoilt, rng)
    said = ANONYMOUS.render("repair", found)[1].content
    assert not words(re.sub(r"\bAdd a node\b", "", said)) & {*BETRAY, name}


def test_a_set_of_ones_own_hides_too(tmp_path):
    """A folder with two lines of settings is enough, whatever templates it takes."""
    (tmp_path / "prompt.toml").write_text('description = "mine"\nextends = "terse"\nhides = ["ops"]\n')
    text = preview.next_messages(preview.example(load_space("open")), PromptSet(tmp_path), "propose")[1].content
    assert not words(text) & BETRAY
    assert {"op_a", "attr_a"} <= words(text)


NAMES = disguise_of(load_space("open"), 5).names


@given(st.lists(st.sampled_from([*NAMES, *NAMES.values(), "x", ", ", "'", "\n", " ", "\\", "op_zz", "0>1"])))
@settings(max_examples=300, deadline=None)
def test_twice_is_not_at_all(parts):
    """The swap is its own inverse on any text, so what a model wrote comes back to it letter by letter."""
    disguise, text = Disguise(NAMES), "".join(parts)
    assert disguise.text(disguise.text(text)) == text
    said = json.dumps({"rationale": text})
    assert json.loads(disguise.text(disguise.text(said))) == {"rationale": text}


@pytest.mark.parametrize("name", SPACES)
def test_there_and_back(name):
    """A graph written in codes is read as the graph it is; names are one to one, other ones for another seed."""
    space, rng = load_space(name), np.random.default_rng(0)
    disguise = disguise_of(space, 0)
    assert len(set(disguise.names.values())) == len(disguise.names)
    assert not set(disguise.names) & set(disguise.names.values())
    own = [disguise.names[op] for op in space.describe()["ops"]]
    assert set(own) <= {f"op_{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:len(own) + 1]}
    if len(own) > 2:
        assert len({tuple(disguise_of(space, seed).names.items()) for seed in range(5)}) == 5
    assert disguise_of(space, 0).names == disguise.names
    for graph in (space.sample(rng) for _ in range(10)):
        wire = {"rationale": "", "nodes": [node.model_dump(exclude_none=True) for node in graph.nodes],
                "output": graph.output}
        sent = disguise.text(json.dumps({"proposals": [wire]}))
        assert not words(sent) & BETRAY
        assert read_proposals(json.loads(disguise.text(sent)), name)[0][1] == graph


def test_what_is_logged():
    """The names once a run; the calls as the model saw and wrote them; proposals and rules in true names."""
    made, emitted, saved = agent(MockModel(0)), [], []
    scene = preview.example(load_space("nb201"))
    ctx = replace(context(4, scene.trials), emit=emitted.append, save=lambda record: saved.append(record) or "")
    found = ask(made, 6, ctx)
    assert all(one.graph is not None and not one.issues for one in found)
    assert {node.op for one in found for node in one.graph.nodes} <= {*load_space("nb201").describe()["ops"], "add"}
    assert [body.kind for body in emitted][:3] == ["called", "reflected", "called"]
    assert all(words(rule.text) & set(OPS) for rule in emitted[1].rules)
    assert not any(words(record.model_dump_json()) & set(OPS) for record in saved)
    ask(made, 6, replace(ctx, step=0))
    assert [body.names for body in emitted if body.kind == "disguised"] == [made.dialogue.briefing.disguise.names]


def test_rules_come_back_to_the_model_as_it_wrote_them():
    """A rule is kept in true names and shown in codes again."""
    made = agent(MockModel(0))
    wrote = f"With {made.dialogue.briefing.disguise.names['skip_connect']} at 0>3 the score is higher."
    kept = Rule(text=made.dialogue.briefing.disguise.text(wrote), supports=(1,))
    assert "skip_connect" in kept.text
    assert made.dialogue.briefing.propose(Request(2), (), [kept], np.random.default_rng(0))["block"]["rules"] == [wrote]


def test_a_name_from_memory_is_no_op():
    """A model that recites a cell by true names has not proposed it, and is told so without learning a code."""

    class Recites(Spy):
        def chat(self, messages, schema, seed, deadline=None):
            reply = super().chat(messages, schema, seed, deadline)
            cell = load_space("nb201").prior()[-1]
            wire = {"rationale": "known", "nodes": [node.model_dump(exclude_none=True) for node in cell.nodes],
                    "output": "out"}
            return reply.model_copy(update={"text": json.dumps({"proposals": [wire]})})

    model = Recites()
    found = ask(agent(model, prior=False), 1, context(1))
    assert [issue.code for issue in found[0].issues][:1] == ["unknown_op"]
    asked = model.asked[1][0][1].content
    assert "op 'nor_conv_3x3' is not legal here. Use one of op_a, op_b, op_c, op_d, op_e" in asked


def test_a_prompt_that_hides_nothing_changes_nothing():
    made = agent(Spy(), prompts=load_prompt("base"))
    assert made.dialogue.briefing.disguise.names == {}
    assert made.dialogue.briefing.disguise.text("op_a nor_conv_3x3") == "op_a nor_conv_3x3"
    found = made.dialogue.briefing.propose(Request(1), (), (), np.random.default_rng(0))
    assert (found["space"]["title"], found["space"]["about"]) != (TITLE, ABOUT)


def proposed(prompt, space, rounds=60, n=8):
    """What the mock proposes in a first step without exemplars, as graphs."""
    made = [agent(MockModel(seed), space, load_prompt(prompt), seed=seed, prior=False) for seed in range(rounds)]
    return [one for each in made for one in ask(each, n, context(1))
            if one.origin.operator.startswith("llm_")]


def test_the_mock_has_no_prior_when_names_are_hidden():
    """A control: its designs are uniform draws, op by op, where with names they are the known-good ones."""
    blind = [one.graph for one in proposed("anonymous", "nb201")]
    ops = Counter(node.op for graph in blind for node in graph.nodes if node.id != "out")
    total = sum(ops.values())
    # 2,880 draws of five ops: the deviation of a share is 0.8 points.
    assert total == 60 * 8 * 6
    assert all(abs(count / total - 0.2) < 0.04 for count in ops.values())
    assert len(ops) == 5
    known = Counter(node.op for one in proposed("base", "nb201", 10) for node in one.graph.nodes if node.id != "out")
    assert known["avg_pool_3x3"] == 0


@pytest.mark.parametrize("name", ["convnet", "mbconv"])
def test_nor_of_attributes(name):
    """Widths are drawn uniformly too."""
    places = Counter()
    for one in proposed("anonymous", name, 20):
        node = one.graph.nodes[0]
        legal = next(choices for slot in load_space(name).spec.slots() if slot.id == node.id
                     for choices in [slot.choices[node.op]])
        places[legal["channels"].index(node.channels) / max(1, len(legal["channels"]) - 1)] += 1
    mean = sum(place * count for place, count in places.items()) / places.total()
    assert len(places) == 1 or abs(mean - 0.5) < 0.15


def test_hidden_graphs_are_random_rows_and_random_edits():
    """On open graphs: any op comes first, and an exemplar comes back with one node changed."""
    firsts = Counter(one.raw["nodes"][0]["op"] for one in proposed("anonymous", "open", 60))
    unary = {op for op in load_space("open").describe()["ops"] if OPS[op].inputs[0] == 1}
    assert set(firsts) >= unary - {"conv_block"}
    assert max(firsts.values()) < 3 * firsts.total() / len(unary)
    space = load_space("open")
    parent = measured(1, preview.example(space).trials[2].proposal, 0.9, space)
    found = [one for seed in range(6) for one in ask(agent(MockModel(1), "open", prior=False), 16,
                                                     context(1, [parent]), seed)]
    before = {node.id: node for node in parent.proposal.graph.nodes}
    changed = [sum(node != before.get(node.id) for node in one.graph.nodes) for one in found
               if one.graph is not None and {node.id for node in one.graph.nodes} == before.keys()
               and one.origin.operator.startswith("llm_")]
    assert changed.count(1) >= 4
