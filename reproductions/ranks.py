"""Several processes of one run, as `torchrun` or `accelerate launch` start them; alone, each of these is nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous

PATIENCE = timedelta(days=2)
FSDP = "ACCELERATE_USE_FSDP"
OTHERS = {"DeepSpeed": "ACCELERATE_USE_DEEPSPEED", "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM"}


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Meet the others for the first time; each rank gets its share of the cores.

    One rank may work alone for as long as `PATIENCE` while the others wait. Every rank reads the weights of frozen
    networks: told of FSDP, transformers would leave them to the first one of a machine.
    """
    if count() > 1 and not PartialState._shared_state:
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE, **_afresh())
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", count()))))


def parted() -> bool:
    """Whether ranks are to part networks between them, as `accelerate launch --use_fsdp` asks for."""
    return count() > 1 and _asked(FSDP)


def check_ways() -> None:
    """Raise ValueError where Accelerate is told to part networks in a way that the loop does not."""
    asked = []
    if _asked(FSDP) and os.environ.get("FSDP_VERSION", "1") != "2":
        asked.append("version 1 of FSDP")
    asked += [name for name, value in OTHERS.items() if _asked(value)]
    if asked:
        raise ValueError(
            f"Accelerate is set up for {' and '.join(asked)}, which is not done here: let ranks part networks by "
            "version 2 of FSDP (`accelerate launch --use_fsdp --fsdp_version 2`), or keep them whole (`--multi_gpu`)"
        )


@contextmanager
def whole() -> Iterator[None]:
    """Let Accelerate take networks for whole, even where it was told of FSDP."""
    told = os.environ.pop(FSDP, None)
    try:
        yield
    finally:
        if told is not None:
            os.environ[FSDP] = told


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")


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
