"""Registry, misuse, combination and the job."""

import json
import subprocess
import sys
from math import log

import numpy as np
import pytest

from llmnas.errors import InputError
from llmnas.proxies import PROXIES, default_pair, proxy, rank, ranking, score, score_job
from llmnas.proxies.job import read_batch
from llmnas.testing.proxy import batch, dead_network, image_network, sequence_network

BOTH = {"a": 1, "b": -1}


class After:
    """A stop that comes true at the n-th question."""

    def __init__(self, n):
        self.n = n

    def expired(self):
        """Counts down."""
        self.n -= 1
        return self.n < 0


def test_importing_needs_no_torch():
    """The registry and the sizes are there without torch, so that listing proxies is fast."""
    code = ("import sys\nfrom llmnas.proxies import *\nfrom llmnas.network import Draft\nd = Draft((3, 8, 8))\n"
            "d.linear(d.global_pool(d.conv(-1, 4)), 2)\n"
            "print(score(d.finish(), None, None, ['params'])['params'].value, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["22.0", "False"]


def test_unknown_proxy_names_the_nearest():
    """A misspelt proxy is a wrong input with a hint."""
    with pytest.raises(InputError, match="did you mean 'synflow'"):
        score(image_network(), None, None, ["sinflow"])


def test_batch_that_does_not_fit_is_refused():
    """Wrong shape, wrong number of labels and labels beyond the classes are wrong inputs that say what was expected."""
    network = image_network()
    x, y = batch(network.input_shape)
    with pytest.raises(InputError, match=r"expected examples of shape \(B, 3, 8, 8\), got \(8, 3, 4, 8\)"):
        score(network, x[:, :, :4], y, ["nwot"])
    with pytest.raises(InputError, match="expected 8 labels, got 2"):
        score(network, x, y[:2], ["nwot"])
    with pytest.raises(InputError, match="expected labels from 0 to 3"):
        score(network, x, y + 3, ["nwot"])


def test_name_is_registered_once():
    """A second proxy of the same name is a mistake."""
    with pytest.raises(ValueError, match="already registered"):
        proxy("params", passes=set(), data="none", cost=0, validity="-", source="-")(lambda evidence: 0.0)


def test_formula_that_fails_is_a_typed_problem(monkeypatch):
    """A formula that divides by zero or gives NaN becomes a problem of that proxy alone."""
    monkeypatch.setitem(PROXIES, "broken", None)
    del PROXIES["broken"]
    proxy("broken", passes={"forward"}, data="batch", cost=1, validity="-", source="-")(lambda evidence: 1 / 0)
    found = score(image_network(), *batch((3, 8, 8)), ["broken", "nwot"])
    assert found["broken"].problem.startswith("ZeroDivisionError")
    assert found["nwot"].value is not None
    del PROXIES["broken"]


def test_transform_is_defined_everywhere():
    """Transforms for a regression are finite for zero and for negative scores."""
    assert PROXIES["params"].transformed(100.0) == pytest.approx(log(100))
    assert PROXIES["jacov"].transformed(-39217.0) == pytest.approx(-log(39218))
    assert PROXIES["nwot"].transformed(-3.0) == -3.0


def test_rank_is_the_mean_log_rank():
    """Worst of three in one and best in the other: (ln 1/3 + ln 3/3) / 2; direction -1 turns the order."""
    pool = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 2.0}, {"a": 3.0, "b": 3.0}]
    assert rank(pool, BOTH) == pytest.approx([log(1 / 3) / 2, log(2 / 3), log(1 / 3) / 2])
    assert ranking(pool, BOTH) == [1, 0, 2]


def test_missing_and_infinite_scores_rank_worst():
    """A network without a score lies below every network with one, in either direction."""
    pool = [{"a": -1e9, "b": 1e9}, {"b": None}, {"a": float("nan"), "b": float("inf")}]
    assert ranking(pool, BOTH)[0] == 0
    assert rank(pool, BOTH)[1] == rank(pool, BOTH)[2] == pytest.approx(log(1.5 / 3))


def test_ties_share_their_rank_and_empty_pools_are_fine():
    """Equal scores give equal ranks; nothing to rank and nothing to rank by are not errors."""
    assert rank([{"a": 1.0}, {"a": 1.0}], {"a": 1}) == pytest.approx([log(.75)] * 2)
    assert rank([], BOTH) == []
    assert rank([{"a": 1.0}], {}) == [0.0]


def test_default_pair_is_registered_for_every_space():
    """The pre-registered pairs name real proxies."""
    assert default_pair("nb201") == ("jacov", "params")
    assert set(default_pair("convnet")) | set(default_pair("nb201")) <= set(PROXIES)


def _payload(networks, **more):
    payload = {"networks": [network.to_data() for network in networks], "data": {"noise": {"batch": 8, "seed": 0}},
               "names": ["params", "nwot", "synflow"], "seed": 0, "device": "cpu", "threads": 1, "deadline": None}
    return json.loads(json.dumps(payload | more))


def test_job_scores_in_order_and_speaks_json():
    """The job's result survives JSON, keeps the order and equals `score` on the same batch."""
    networks = [image_network(), dead_network()]
    result = json.loads(json.dumps(score_job(_payload(networks))))
    x, y = read_batch({"noise": {"batch": 8, "seed": 0}}, networks)
    assert not result["stopped"]
    assert result["scores"][0]["nwot"]["value"] == score(networks[0], x, y, ["nwot"])["nwot"].value
    assert result["scores"][1]["synflow"]["value"] is None
    assert len(result["seconds"]) == 2


def test_job_returns_what_it_has_when_stopped():
    """A stop and a deadline both end the job between networks, with the scores so far."""
    result = score_job(_payload([image_network()] * 3), After(2))
    assert result["stopped"]
    assert len(result["scores"]) == 2
    assert score_job(_payload([image_network()], deadline=0))["scores"] == []


def test_noise_fits_sequences_and_refuses_a_mixture():
    """Noise takes the shape of the networks, which must agree."""
    x, y = read_batch({"noise": {}}, [sequence_network()])
    assert x.shape == (64, 2, 16)
    assert y.max() < 4
    with pytest.raises(InputError, match="one input shape"):
        read_batch({"noise": {}}, [sequence_network(), image_network()])


def test_real_data_is_one_fixed_normalised_batch(tmp_path):
    """Real data give the same shuffled examples each time, normalised by the training part's mean and deviation."""
    data = pytest.importorskip("llmnas.data")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train_x.npy", rng.integers(0, 256, (100, 3, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "train_y.npy", np.repeat(np.arange(4), 25))
    ref = data.DataRef(name="toy", directory=str(tmp_path), shape=(3, 8, 8), classes=4, class_names=tuple("abcd"),
                       sizes={"train": 100}, natural=False, mean=(127.5,) * 3, std=(74.0,) * 3, digests={}, seed=0)
    x, y = read_batch(ref.model_dump(mode="json"), [])
    assert x.shape == (64, 3, 8, 8)
    assert abs(x.mean()) < .05
    assert x.std() == pytest.approx(1, abs=.05)
    assert len(set(y)) == 4
    assert np.array_equal(x, read_batch(ref.model_dump(mode="json"), [])[0])
