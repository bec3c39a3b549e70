import subprocess
import sys

HEAVY = {"geomloss", "networkx", "numba", "ot", "pandas", "scipy", "torchvision"}


def test_importing_is_light():
    """What only some distances and engines need is imported when they are used."""
    script = (
        "import sys, torch; before = set(sys.modules); import context_prediction; print(*set(sys.modules) - before)"
    )
    added = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "context_prediction.loss" in added
    assert {name.partition(".")[0] for name in added} & HEAVY == set()
