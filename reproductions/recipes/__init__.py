"""How much of everything, and how: networks, trainings and samplers by name."""
