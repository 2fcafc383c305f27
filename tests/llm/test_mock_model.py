"""The mock proposes only what the block allows, unless a dial says otherwise."""

import json

import pytest
from llm_blocks import cell_block, chain_block, dag_block, prompt

from llmnas.graph import ArchGraph, structural_issues
from llmnas.llm import CallFailed, OutOfTime, cut_off, open_model, read_object
from llmnas.llm.mock import Dials, MockModel, _exemplars
from llmnas.llm.mock_slots import SlotSpace

BLOCKS = {"cell": cell_block, "chain": chain_block, "dag": dag_block}


def ask(block, seed=0, **dials):
    """Returns the reply of a mock and the JSON in it."""
    reply = MockModel(7, Dials(**dials)).chat(prompt(block), None, seed)
    return reply, read_object(reply.text)[0]


def attributes(node):
    """Returns the attributes that are set."""
    return {k: v for k, v in node.items() if k not in ("id", "op", "inputs") and v is not None}


def faults(block, proposal):
    """Returns what plain Python finds illegal in a proposal."""
    nodes = {node["id"]: node for node in proposal["nodes"]}
    found = [] if len(nodes) == len(proposal["nodes"]) else ["repeated id"]
    found += [] if proposal["output"] in nodes else ["output"]
    if block["topology"] == "slots":
        for slot in block["slots"]:
            node = nodes.pop(slot["id"])
            legal = slot["choices"].get(node["op"])
            fits = legal is not None and node["inputs"] == slot["inputs"] and set(attributes(node)) == set(legal)
            if not fits or any(value not in legal[name] for name, value in attributes(node).items()):
                found.append(node)
        copied = [{k: node[k] for k in ("id", "op", "inputs")} for node in nodes.values()]
        found += [] if block["fixed"] == copied else ["fixed"]
        return found
    found += [] if block["min_nodes"] <= len(nodes) <= block["max_nodes"] else ["size"]
    for node in nodes.values():
        spec = block["ops"][node["op"]]
        low, high = spec["inputs"]
        if not low <= len(node["inputs"]) <= high or set(attributes(node)) != set(spec["attributes"]):
            found.append(node)
        found += [node for name, value in attributes(node).items() if value not in spec["attributes"][name]]
    graph = ArchGraph(space="x", output=proposal["output"], nodes=proposal["nodes"])
    return found + structural_issues(graph)


def exemplars(block, count=3):
    """Returns measured designs of a space."""
    _, value = ask({**block, "count": count}, seed=99)
    return [{"trial": n, "nodes": p["nodes"], "output": p["output"], "score": 0.8 + n / 100, "params": 1000 * n}
            for n, p in enumerate(value["proposals"], 1)]


def test_exemplars_go_by_limits_on_every_target_and_by_the_reward():
    """An exemplar over a limit of any target is left out, an unknown figure is not; a reward goes before the score."""
    block = {"limits": {"max_latency_ms": {"cpu": 5.0, "t4": 1.0}}, "exemplars": [
        {"trial": 1, "nodes": [1], "score": 0.9, "latency_ms": {"cpu": 4.0, "t4": 2.0}},
        {"trial": 2, "nodes": [1], "score": 0.8, "latency_ms": {"cpu": 4.0, "t4": None}},
        {"trial": 3, "nodes": [1], "score": 0.7, "latency_ms": {"cpu": 5.0, "t4": 1.0}}]}
    assert [item["trial"] for item in _exemplars(block)] == [2, 3]
    block["exemplars"][2]["reward"] = 0.85
    assert [item["trial"] for item in _exemplars(block)] == [3, 2]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("history", [False, True])
def test_proposals_are_legal(kind, history):
    """Every proposal is legal under the block, with and without exemplars, and as many come as were asked for."""
    block = BLOCKS[kind]()
    if history:
        block["exemplars"] = exemplars(block)
    for seed in range(12):
        _, value = ask(block, seed)
        assert len(value["proposals"]) == block["count"]
        assert [fault for p in value["proposals"] for fault in faults(block, p)] == []


@pytest.mark.parametrize("kind", BLOCKS)
def test_one_reply_has_no_repeats(kind):
    """The proposals of one reply differ from each other and from the exemplars."""
    block = BLOCKS[kind]()
    block["exemplars"] = exemplars(block)
    for seed in range(8):
        _, value = ask(block, seed)
        graphs = [json.dumps(p["nodes"]) for p in value["proposals"] + block["exemplars"]]
        assert len(set(graphs)) == len(graphs)


@pytest.mark.parametrize("kind", BLOCKS)
def test_same_seeds_same_answer(kind):
    """The answer is a function of prompt, mock seed and call seed."""
    block = BLOCKS[kind]()
    assert ask(block, 1)[0] == ask(block, 1)[0]
    assert ask(block, 1)[0].text != ask(block, 2)[0].text
    assert MockModel(8).chat(prompt(block), None, 1).text != ask(block, 1)[0].text


def test_cells_are_built_round_a_shortcut():
    """The first designs of a cell keep the identity from input to output and upgrade the chain edge by edge."""
    designs = SlotSpace(cell_block()).sizes
    assert [design["0>3"]["op"] for design in designs[:6]] == ["skip_connect"] * 6
    assert [design["0>1"]["op"] for design in designs[:2]] == ["nor_conv_1x1", "nor_conv_3x3"]
    assert [designs[5][edge]["op"] for edge in ("0>1", "1>2", "2>3", "0>2")] == ["nor_conv_3x3"] * 3 + ["none"]


def test_chains_start_with_residual_blocks():
    """The first chain is made of the residual kind, and later ones are wider and deeper."""
    designs = SlotSpace(chain_block()).sizes
    assert [designs[0][f"s{i}"]["op"] for i in (1, 2, 3)] == ["basic"] * 3
    assert sum(c["channels"] for c in designs[-1].values()) > sum(c["channels"] for c in designs[0].values())


def test_sums_of_a_dag_have_equal_widths():
    """Every add in an open graph joins branches of the same width and resolution."""
    block = dag_block()
    block["exemplars"] = exemplars(block)
    for seed in range(12):
        for proposal in ask(block, seed)[1]["proposals"]:
            shape = {"input": (3, 1)}
            for node in proposal["nodes"]:  # in order
                channels, scale = shape[node["inputs"][0]]
                assert {shape[source] for source in node["inputs"]} == {(channels, scale)}
                shape[node["id"]] = (node["channels"] or channels, scale * (node["stride"] or 1))


def test_nodes_follow_the_schema():
    """With a schema, every node carries exactly its attributes, null when not used."""
    names = ["id", "op", "inputs", "channels", "heads"]
    node = {"type": "object", "properties": {name: {} for name in names}}
    proposal = {"properties": {"nodes": {"items": node}}}
    schema = {"properties": {"proposals": {"items": proposal}}}
    reply = MockModel().chat(prompt(cell_block()), schema, 0)
    assert {tuple(n) for p in json.loads(reply.text)["proposals"] for n in p["nodes"]} == {tuple(names)}


@pytest.mark.parametrize("kind", BLOCKS)
def test_invalid_dial_breaks_every_proposal(kind):
    """At invalid=1 every proposal is illegal, and for more than one reason over many."""
    block = BLOCKS[kind]()
    for seed in range(6):
        for proposal in ask(block, seed, invalid=1)[1]["proposals"]:
            try:
                assert faults(block, proposal)
            except KeyError:  # an unknown op
                continue


@pytest.mark.parametrize("kind", BLOCKS)
def test_repair_mends(kind):
    """A repaired proposal is legal."""
    block = BLOCKS[kind]()
    broken = ask(block, 3, invalid=1)[1]["proposals"]
    entries = [{"proposal": p, "issues": [{"at": "nodes[0].op", "says": "unknown", "fix": "Use a legal op."}]}
               for p in broken]
    again = {**block, "role": "repair", "count": len(entries), "invalid": entries}
    _, value = ask(again, 4)
    assert len(value["proposals"]) == len(entries)
    assert [fault for p in value["proposals"] for fault in faults(block, p)] == []


def test_repair_of_a_legal_design_changes_it():
    """When the values were legal and the design still broke a constraint, another design comes back."""
    block = chain_block()
    sent = ask(block, 3)[1]["proposals"][:2]
    entries = [{"proposal": p, "issues": [{"at": "graph", "says": "too large", "fix": "Make it smaller."}]}
               for p in sent]
    back = ask({**block, "role": "repair", "count": 2, "invalid": entries}, 5)[1]["proposals"]
    assert all(a["nodes"] != b["nodes"] for a, b in zip(sent, back, strict=True))


def test_duplicate_dial():
    """At duplicate=1 every proposal repeats an exemplar."""
    block = cell_block()
    block["exemplars"] = exemplars(block)
    known = [item["nodes"] for item in block["exemplars"]]
    assert all(p["nodes"] in known for p in ask(block, 1, duplicate=1)[1]["proposals"])


def test_truncated_and_refused_dials():
    """A cut reply is recognised as cut; a refusal holds no JSON."""
    reply, value = ask(cell_block(), 1, truncated=1)
    assert (reply.finish, reply.cut, value) == ("length", True, None)
    assert cut_off(read_object(reply.text)[1])
    reply, value = ask(cell_block(), 1, refused=1)
    assert (reply.finish, value) == ("refusal", None)


def test_a_late_reply_costs_its_timeout_and_no_more(fake_time):
    """A late reply is a failed call after the time-out, whatever the deadline, and OutOfTime when that comes first."""
    free = MockModel(dials=Dials(late=1), clock=fake_time.clock, sleep=fake_time.sleep)
    with pytest.raises(CallFailed) as caught:
        free.chat(prompt(cell_block()), None, 0, deadline=1e9)
    assert (free.instant, fake_time.slept, caught.value.status, caught.value.permanent) == (True, [], "timeout", False)
    slow = MockModel(dials=Dials(late=1, timeout=4), clock=fake_time.clock, sleep=fake_time.sleep)
    with pytest.raises(CallFailed) as caught:
        slow.chat(prompt(cell_block()), None, 0, deadline=1e9)
    assert (slow.instant, fake_time.slept, caught.value.usage.seconds) == (False, [4.0], 4.0)
    assert (caught.value.usage.input_tokens, caught.value.usage.usd) == (None, None)
    with pytest.raises(OutOfTime):
        slow.chat(prompt(cell_block()), None, 0, deadline=fake_time.now + 3)
    assert fake_time.slept == [4.0, 3.0]


def test_delay_and_cost_dials(fake_time):
    """Every reply takes its seconds and has its price; the deadline cuts the wait."""
    model = MockModel(dials=Dials(delay=2.5, cost=0.4), clock=fake_time.clock, sleep=fake_time.sleep)
    usage = model.chat(prompt(cell_block()), None, 0, deadline=2000).usage
    assert (model.instant, fake_time.slept, usage.seconds) == (False, [2.5], 2.5)
    assert usage.usd == pytest.approx(0.4 * (usage.input_tokens + usage.output_tokens) / 1000)
    with pytest.raises(OutOfTime):
        model.chat(prompt(cell_block()), None, 0, deadline=fake_time.now + 1)


@pytest.mark.parametrize("kind", BLOCKS)
def test_prior_dial(kind):
    """At 0 nothing is known-good, at 1 all of it, between a share; what is drawn instead is legal, but for open graphs.

    A random row of ops may break rules of shapes, which the block does not tell.
    """
    shares = {}
    for prior in (0, .5, 1):
        made = [one for seed in range(20) for one in ask(BLOCKS[kind](), seed, prior=prior)[1]["proposals"]]
        assert not [fault for one in made for fault in faults(BLOCKS[kind](), one)]
        shares[prior] = sum(one["rationale"].startswith("Known-good") for one in made) / len(made)
    assert (shares[0], shares[1]) == (0, 1)
    assert .3 < shares[.5] < .7


def test_hidden_names_leave_no_prior():
    """A prompt that hides what the ops are gets random designs, though the dial says otherwise; the names decide."""
    block = cell_block()
    for slot in block["slots"]:
        slot["choices"] = {f"op_{code}": {} for code in "abcde"}
    assert all(one["rationale"].startswith("Random") for one in ask(block, 1, prior=1)[1]["proposals"])


def test_reflection_is_true():
    """Rules cite trials that really are on their side of the comparison."""
    block = cell_block(count=6)
    trials = [{**item, "score": 0.5 + 0.07 * (item["nodes"][0]["op"] == "nor_conv_3x3") + item["trial"] / 1000}
              for item in exemplars(block, 6)]
    _, value = ask({**block, "role": "reflect", "trials": trials}, 0)
    assert value["rules"]
    for rule in value["rules"]:
        feature = rule["text"].removeprefix("With ").split(" the mean")[0]
        op, edge = feature.split(" at ")
        have = {t["trial"] for t in trials if any(n["id"] == edge and n["op"] == op for n in t["nodes"])}
        lack = [t["score"] for t in trials if t["trial"] not in have]
        sign = 1 if "higher" in rule["text"] else -1
        assert have == set(rule["supports"]) | set(rule["contradicts"])
        by_n = {t["trial"]: t["score"] for t in trials}
        assert all(sign * (by_n[n] - sum(lack) / len(lack)) > 0 for n in rule["supports"])


def test_cost_is_known():
    """The mock costs nothing and counts tokens by characters."""
    reply, _ = ask(cell_block())
    assert reply.usage.usd == 0.0
    assert reply.usage.output_tokens == len(reply.text) // 4
    assert reply.model == "mock:7"


def test_spec_with_dials():
    """The dials are part of the spec, and the name, which opens the same model again."""
    assert open_model("mock:3,invalid=0.2,late=1").dials == Dials(invalid=0.2, late=1)
    model = open_model("mock:3:prior=.5:late=.05:cost=2:delay=0")
    assert (model.name, model.dials) == ("mock:3:prior=0.5:late=0.05:cost=2", Dials(prior=.5, late=.05, cost=2))
    assert open_model(model.name).name == model.name
    assert open_model("mock:prior=0").name == "mock:0:prior=0"
    assert open_model("mock,refused=1").name == "mock:0:refused=1"


def test_without_prior_the_mock_has_none(monkeypatch):
    """Where known-good designs may not be used the mock has none and is named so, unless its own dial was turned."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    named = {spec: open_model(spec, prior=False).name for spec in ("auto", "mock", "mock:3:late=.5", "mock:3:prior=.5")}
    assert named == {"auto": "mock:0:prior=0", "mock": "mock:0:prior=0", "mock:3:late=.5": "mock:3:prior=0:late=0.5",
                     "mock:3:prior=.5": "mock:3:prior=0.5"}
    assert open_model("mock:3:prior=1", prior=False).dials.prior == 1
    assert open_model(("mock:1", "mock:2:prior=.5"), prior=False).name == "mock:1:prior=0 + mock:2:prior=0.5"


def test_no_design_is_dearer_than_what_was_shown_allows():
    """Sizes far beyond the dearest exemplar are left out; with nothing shown all of them stay, in order of cost."""
    for block in (chain_block(), cell_block()):
        space = SlotSpace(block)
        assert space.affordable([]) == space.sizes
        cheapest, dearest = (pick(space.sizes, key=space.price) for pick in (min, max))
        few = space.affordable([cheapest])
        assert 0 < len(few) < len(space.sizes)
        assert all(space.price(design) <= 1.5 * space.price(cheapest) for design in few)
        assert dearest in space.affordable([cheapest, dearest])
