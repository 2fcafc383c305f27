"""Every registered proxy keeps the contract."""

from llmnas.proxies import PROXIES
from llmnas.testing.proxy import ProxyContract


class TestParams(ProxyContract):
    name, counts_only = "params", True


class TestFlops(ProxyContract):
    name, counts_only = "flops", True


class TestL2Norm(ProxyContract):
    name, counts_only = "l2_norm", True


class TestSynflow(ProxyContract):
    name = "synflow"


class TestNwot(ProxyContract):
    name = "nwot"

    def test_dead_network_is_a_typed_problem(self):
        """Gates before the dead layer still tell examples apart, and that is what nwot scores."""
        from llmnas.testing.proxy import dead_network

        assert self._score(dead_network()).value is not None


class TestJacov(ProxyContract):
    name = "jacov"


class TestGradNorm(ProxyContract):
    name = "grad_norm"


class TestSnip(ProxyContract):
    name = "snip"


def test_every_proxy_has_a_contract_class():
    """A proxy that is added without a contract class is noticed."""
    tested = {kind.name for kind in ProxyContract.__subclasses__()}
    assert tested == set(PROXIES)
