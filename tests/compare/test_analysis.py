"""From trajectories to the document: curves, targets, families, notes, and the page."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from llmnas.compare import ANYTIME, TEST, VALIDATION, analyse, curves, page, parse_arms, plots, words
from llmnas.compare.analysis import Measure, Question
from llmnas.errors import InputError
from tests.compare.conftest import field, made_up

MEASURES = [TEST, VALIDATION, ANYTIME]


def document(found, **question):
    return page.complete({"source": "table", **analyse(found, MEASURES, Question(**question)),
                          "terms": {"bench": "toy"}, "about": {"seconds": "a second each"}},
                         ("llmnas", "compare", "--bench", "toy"))


def pair(found, arm, measure="test"):
    return next(one for one in found["pairs"] if (one["arm"], one["measure"]) == (arm, measure))


def test_arms():
    arms = parse_arms("random, evolution,random,random#4,random")
    assert [(arm.label, arm.strategy, arm.stream) for arm in arms] == [
        ("random", "random", 1), ("evolution", "evolution", 1), ("random#2", "random", 2), ("random#4", "random", 4),
        ("random#3", "random", 3)]
    first, second = arms[0], arms[2]
    assert [first.seed(seed) for seed in range(3)] == [0, 1, 2]
    drawn = [second.seed(seed) for seed in range(50)]
    assert len(set(drawn)) == 50
    assert drawn == [second.seed(seed) for seed in range(50)]
    assert all(0 <= seed < 2**31 for seed in drawn)
    for text, says in (("", "names by comma"), ("a#0", "NAME#STREAM"), ("a#2,a#2", "named twice")):
        with pytest.raises(InputError, match=says):
            parse_arms(text)


def test_incumbents():
    run = made_up("a", 0, [None, 0.2, 0.1, None, 0.5])
    assert np.array_equal(curves.incumbents(run, 7), [np.nan, .2, .2, .2, .5, .5, .5], equal_nan=True)
    assert np.array_equal(curves.incumbents(run, 2), [np.nan, .2], equal_nan=True)
    assert np.array_equal(curves.incumbents_at(run, np.array([0.5, 1.0, 2.0, 4.9, 5.0, 99.0])),
                          [np.nan, np.nan, .2, .2, .5, .5], equal_nan=True)
    assert np.isnan(curves.incumbents(made_up("a", 0, []), 3)).all()


def test_a_curve_is_only_where_every_seed_is():
    found = curves.by_evaluation({"a": [made_up("a", 0, [None, 0.4, 0.6]), made_up("a", 1, [0.2, 0.2])]}, 4)
    own = found["arms"]["a"]
    assert own["mean"] == [None, pytest.approx(0.3), pytest.approx(0.4), pytest.approx(0.4)]
    assert own["ended"] == [0.0, 0.0, 0.5, 1.0]
    assert own["low"][0] is None
    assert own["low"][3] <= own["mean"][3] <= own["high"][3]


def test_bands_hold_the_mean_and_shrink_with_seeds():
    rng = np.random.default_rng(0)
    few, many = (curves.band(rng.normal(size=(n, 3))) for n in (8, 200))
    for one in (few, many):
        assert all(low < mean < high for low, mean, high in zip(one["low"], one["mean"], one["high"], strict=True))
    assert many["high"][0] - many["low"][0] < few["high"][0] - few["low"][0]
    # about 2 · 1.96 / sqrt(200), the width of the normal interval
    assert many["high"][0] - many["low"][0] == pytest.approx(0.277, rel=0.15)


def test_seconds_that_nobody_knows_have_no_curve():
    run = made_up("a", 0, [0.1, 0.2])
    blind = run.model_copy(update={"paid": tuple(one.model_copy(update={"at_s": None}) for one in run.paid)})
    found = curves.by_second({"a": [run], "b": [blind]})
    assert list(found["arms"]) == ["a"]
    assert found["unknown"] == ["b"]
    assert curves.by_second({"b": [blind]}) == {"x": [], "arms": {}, "unknown": ["b"]}


def test_censored_seeds_count_as_longer():
    runs = [made_up("a", seed, [0.1] * (seed + 1) + [0.9]) for seed in range(3)]
    never = [made_up("a", seed, [0.1] * 9) for seed in range(3, 6)]
    found = curves.until([*runs, never[0]], 0.9)
    assert (found["reached"], found["of"], found["evaluations"], found["seconds"]) == (3, 4, 3.5, 3.5)
    assert curves.until([*runs, *never], 0.9)["evaluations"] is None  # exactly half: the median seed never did
    assert curves.until(runs, 0.9)["evaluations"] == 3


def test_document():
    found = analyse(field(random=0.0, good=0.05, same=0.0), MEASURES)
    assert found["reference"] == "random"
    assert found["by"] == "test"
    assert pair(found, "good")["verdict"] == "better"
    assert pair(found, "same")["verdict"] == "not decided"
    assert {one["family"] for one in found["pairs"] if one["measure"] == "test"} == {2}
    assert {one["family"] for one in found["pairs"] if one["measure"] != "test"} == {4}  # all others are one family
    assert found["target"] == np.median([run.best().score for run in field(random=0.0)])
    assert json.loads(json.dumps(found)) == found
    assert [arm["charges"]["train_s"] for arm in found["arms"]] == [None] * 3
    assert found["arms"][0]["rates"]["valid"]["rate"] == pytest.approx(13 / 14)


def test_the_order_of_strategies_changes_nothing():
    runs = field(random=0.0, b=0.01, c=0.04)
    turned = sorted(runs, key=lambda run: ("crb".index(run.arm[0]), -run.seed))
    first, second = analyse(runs, MEASURES), analyse(turned, MEASURES)
    for one in first["pairs"]:
        assert one == pair(second, one["arm"], one["measure"])
    assert first["curves"]["evaluations"]["arms"]["b"] == second["curves"]["evaluations"]["arms"]["b"]


def test_all_pairs_are_one_family():
    found = analyse(field(a=0.0, b=0.02, c=0.05), MEASURES, Question(pairs="all"))
    assert len([one for one in found["pairs"] if one["measure"] == "test"]) == 3
    assert pair(found, "a")["family"] == 3
    assert found["reference"] == "a"  # the first, where there is no random


def test_another_measure_may_decide():
    low = Measure("cost", "lower is better", higher=False)
    runs = [one.model_copy(update={"measures": {**one.measures, "cost": 1 - (one.measures["test"] or 0)}})
            for one in field(random=0.0, good=0.05)]
    found = analyse(runs, [TEST, low], Question(by="cost"))
    assert found["pairs"][0]["measure"] == "cost"
    assert pair(found, "good", "cost")["verdict"] == "better"
    assert pair(found, "good", "cost")["difference"] < 0
    with pytest.raises(InputError, match="no measure"):
        analyse(runs, [TEST, low], Question(by="beauty"))


def test_refusals():
    with pytest.raises(InputError, match="two arms"):
        analyse(field(a=0.0), MEASURES)
    with pytest.raises(InputError, match="none of the arms"):
        analyse(field(a=0.0, b=0.0), MEASURES, Question(reference="c"))
    with pytest.raises(InputError, match="no seed"):
        analyse([made_up("a", 0, [0.1]), made_up("b", 1, [0.1])], MEASURES)


def test_short_searches_and_unequal_ends_are_said():
    runs = [*field(seeds=4, random=0.0), *(made_up("prior", seed, [0.5, 0.6], stopped="space_exhausted")
                                           for seed in range(3))]
    notes = " ".join(analyse(runs, MEASURES)["notes"])
    assert "prior: 3 of 3 searches ended before 12 evaluations, after 2 on average (space_exhausted 3)" in notes
    assert "did not all end for the same reason" in notes
    assert "3 seeds are common" in notes


class Text(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.words = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def read(html):
    parser = Text()
    parser.feed(html)
    return parser.tags, " ".join(" ".join(parser.words).split())


def test_page_holds_what_it_must(tmp_path):
    runs = [*field(random=0.0, good=0.05), *(made_up("agent", seed, [0.4, 0.5], model="mock:0") for seed in range(8))]
    html, data = page.write(document(runs), tmp_path)
    assert (html.name, data.name) == ("compare.html", "compare.json")
    text = html.read_text()
    tags, words_ = read(text)
    assert len(text) < 1_000_000
    assert not [tag for tag, _ in tags if tag in ("script", "link", "img", "iframe")]
    assert not re.findall(r'(?:src|href)="', text)
    assert "prefers-color-scheme:dark" in text
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == 2 + 3  # curves by evaluation and by second, a forest a measure
    assert all(one["role"] == "img" and one["aria-labelledby"] for one in pictures)
    for wanted in ("better than random: good", "Seed by seed", "What a search cost", "Wilson", "Noether", "Holm",
                   "llmnas compare --bench toy", "scipy", "unknown", "better/equal/worse", "mock model", "By charged"):
        assert wanted in words_, wanted
    assert "agent (mock)" in words_
    shown = re.sub(r"agent \(mock\)", "", words_)
    assert not re.search(r"\bagent\b(?!:)", re.sub(r"agent max_evals", "", shown))  # never without its mark
    assert json.loads(data.read_text())["schema"] == "llmnas.compare/1"


def test_long_curves_are_drawn_to_the_end():
    """A curve by second has hundreds of points; its line and its band reach the last one."""
    runs = [made_up(arm, seed, [0.5 + place / 1000 for place in range(300)]) for arm in ("a", "b") for seed in range(3)]
    found = analyse(runs, MEASURES)["curves"]
    for one in found.values():
        picture = plots.curve_plot(one, ["a", "b"], "x", "accuracy")
        ends = [float(path.split("L")[-1].split()[0]) for path in re.findall(r'd="M([^"Z]*)"', picture)]
        last = max(float(x) for x in re.findall(r"L([\d.]+) ", picture))
        assert ends == [last, last]
        assert "…" not in picture
        assert picture.count('Z"') == 2


def test_what_comes_from_outside_is_escaped(tmp_path):
    runs = [one.model_copy(update={"arm": "<script>x</script>"}) if one.arm == "bad" else one
            for one in field(random=0.0, bad=0.01)]
    html, _ = page.write(document(runs), tmp_path)
    assert "<script" not in html.read_text()


def test_console_lines():
    text = "\n".join(words.lines(document([*field(random=0.0, good=0.05), *(
        made_up("agent", seed, [0.4, 0.5], model="mock:0") for seed in range(8))])))
    assert text.startswith("On test with 8 seeds, better than random: good; ")
    assert "Warning: Some proposals were made by the mock model" in text
    assert "agent (mock)" in text
    assert "in the median seed" in text
    assert max(map(len, text.splitlines())) < 600
