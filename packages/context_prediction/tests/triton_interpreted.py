"""Run the Triton kernel in Triton's interpreter, which must be chosen before Triton is imported: `test_assignment`."""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from safetensors.torch import load_file, save_file

from context_prediction.assignment import triton_programs

if __name__ == "__main__":
    costs = load_file(sys.argv[1])
    save_file({name: triton_programs(cost) for name, cost in costs.items()}, sys.argv[2])
    assert not torch.cuda.is_initialized()
