"""Training: targets, timestep densities, the loop as a generator, checkpoints, the monitor."""
