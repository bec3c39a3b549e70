"""One rank of several that merge statistics: `python ranks_merge.py RANK FOLDER`, for the test beside it."""

import sys
from pathlib import Path

import torch
from torch import distributed

from diffusion_evaluation import Accumulator, Space, merge_ranks

SHARDS = (17, 0, 40)


def rows() -> torch.Tensor:
    return torch.randn(sum(SHARDS), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100


def refusal(accumulator: Accumulator) -> str:
    try:
        merge_ranks(accumulator)
    except ValueError as error:
        return str(error)
    return ""


def main(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=len(SHARDS))
    accumulator = Accumulator(Space("toy"))
    for batch in rows().split(SHARDS)[rank].split(5):
        if len(batch):
            accumulator.update(batch)
    merge_ranks(accumulator).save(folder / f"merged-{rank}.safetensors")
    odd = Accumulator(Space("toy"))
    odd.update(torch.zeros(2, 6 + rank))
    told = [refusal(odd), refusal(Accumulator(Space(f"toy-{rank}"))), refusal(Accumulator())]
    (folder / f"told-{rank}.txt").write_text("\n".join(told))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
