"""Ranks with uneven shards, one of them empty, against the statistics of all rows at once."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusion_evaluation import Accumulator, Statistics, merge_ranks

SCRIPT = Path(__file__).with_name("ranks_merge.py")


def test_three_gloo_ranks_find_the_statistics_of_all_rows(tmp_path: Path) -> None:
    specification = importlib.util.spec_from_file_location("ranks_merge", SCRIPT)
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    ranks = range(len(script.SHARDS))
    running = [subprocess.Popen([sys.executable, SCRIPT, str(rank), str(tmp_path)]) for rank in ranks]
    try:
        assert [process.wait(timeout=120) for process in running] == [0] * len(running)
    finally:
        for process in running:
            process.kill()
    pooled = Statistics.of(script.rows())
    merged = [Statistics.load(tmp_path / f"merged-{rank}.safetensors") for rank in ranks]
    for statistics in merged:
        assert (statistics.count, statistics.space.name) == (57, "toy")
        torch.testing.assert_close(statistics.mean, pooled.mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(statistics.covariance, pooled.covariance, rtol=1e-10, atol=1e-10)
        assert torch.equal(statistics.covariance, merged[0].covariance)
    for rank in ranks:
        widths, spaces, empty = (tmp_path / f"told-{rank}.txt").read_text().splitlines()
        assert "the ranks' features have widths [6, 7, 8]" in widths
        assert f"different feature spaces; this one in Space(name='toy-{rank}'" in spaces
        assert "their counts are [0, 0, 0]" in empty


def test_one_process_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"not initialised; with one process, read \.statistics"):
        merge_ranks(Accumulator())
