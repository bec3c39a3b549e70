"""Run an engine's kernel as Python: Triton's and numba's switches must be set before either is imported."""

import os
import sys

os.environ["TRITON_INTERPRET"] = os.environ["NUMBA_DISABLE_JIT"] = "1"

import torch
from safetensors.torch import load_file, save_file

import context_prediction.assignment as engines

if __name__ == "__main__":
    engine = getattr(engines, sys.argv[1])
    save_file({name: engine(cost) for name, cost in load_file(sys.argv[2]).items()}, sys.argv[3])
    assert not torch.cuda.is_initialized()
