"""What a training step costs, and what of it is not the network's."""
