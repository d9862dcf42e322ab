"""The training loop: batches, losses, optimizer, training state, checkpoints."""
