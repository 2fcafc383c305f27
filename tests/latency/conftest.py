"""Lets these tests build the NAS-Bench-201 networks that the proxy tests use too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "proxies"))
