"""Several processes of one run, as `torchrun` or `accelerate launch` start them; alone, each of these is nothing."""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous

PATIENCE = timedelta(days=2)
WAYS = {"FSDP": "ACCELERATE_USE_FSDP", "DeepSpeed": "ACCELERATE_USE_DEEPSPEED"}


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Meet the others for the first time; each rank gets its share of the cores.

    One rank may work alone for as long as `PATIENCE` while the others wait.
    """
    if count() > 1 and not PartialState._shared_state:
        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE, **_afresh())
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", count()))))


def check_whole() -> None:
    """Raise ValueError where Accelerate is told to part networks between ranks, which the loop does not do."""
    asked = [name for name, value in WAYS.items() if os.environ.get(value, "false").lower() in ("1", "true", "yes")]
    if asked:
        raise ValueError(
            f"Accelerate is set up for {' and '.join(asked)}, under which weights and their averages are parted between"
            " ranks; every rank keeps them whole here: set it up for several GPUs (`accelerate launch --multi_gpu`)"
        )


def own() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def _afresh() -> dict[str, Any]:
    """Where torchrun has started the ranks again, a place to meet that holds nothing of those before.

    Its store may live on, with the addresses of ranks that are no more.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0":
        return {}
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    return {"store": PrefixStore(f"attempt {attempt}", store), "rank": rank, "world_size": size}


def leads() -> bool:
    """Whether this is the process that writes."""
    return own() == 0


def meet() -> None:
    """Wait until all are here."""
    if count() > 1:
        PartialState().wait_for_everyone()
