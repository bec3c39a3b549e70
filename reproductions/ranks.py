"""Several processes of one run, as `torchrun` or `accelerate launch` start them; alone, each of these is nothing."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(days=2)


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Meet the others for the first time; each rank gets its share of the cores.

    One rank may work alone for as long as `PATIENCE` while the others wait.
    """
    if count() > 1 and not PartialState._shared_state:
        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", count()))))


def own() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def leads() -> bool:
    """Whether this is the process that writes."""
    return own() == 0


def meet() -> None:
    """Wait until all are here."""
    if count() > 1:
        PartialState().wait_for_everyone()
