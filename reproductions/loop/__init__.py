"""How a training is done."""
