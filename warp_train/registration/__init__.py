"""The lens between the two photos of a pair, by registration."""
