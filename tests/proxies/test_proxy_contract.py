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


class TestPlain(ProxyContract):
    name = "plain"


class TestGrasp(ProxyContract):
    name = "grasp"


class TestFisher(ProxyContract):
    name = "fisher"


class TestZico(ProxyContract):
    name = "zico"


class TestEpeNas(ProxyContract):
    name = "epe_nas"


class TestZen(ProxyContract):
    name = "zen"


class TestMeco(ProxyContract):
    """Layers before the dead one still correlate, and that is what meco scores."""

    name, counts_only = "meco", True


class TestSwap(ProxyContract):
    """Gates before the dead layer still have patterns, and that is what swap scores."""

    name, counts_only = "swap", True


class TestSwapReg(ProxyContract):
    name, counts_only = "swap_reg", True


class TestAzExpressivity(ProxyContract):
    name = "az_expressivity"


class TestAzProgressivity(ProxyContract):
    name = "az_progressivity"


class TestAzTrainability(ProxyContract):
    name = "az_trainability"


class TestGradsign(ProxyContract):
    name = "gradsign"


class TestTeNtk(ProxyContract):
    name = "te_ntk"


class TestTeRegions(ProxyContract):
    """The thin copy has gates before the dead layer, and their patterns are what te_regions counts."""

    name, counts_only = "te_regions", True


def test_every_proxy_has_a_contract_class():
    """A proxy that is added without a contract class is noticed."""
    tested = {kind.name for kind in ProxyContract.__subclasses__()}
    assert tested == set(PROXIES)
