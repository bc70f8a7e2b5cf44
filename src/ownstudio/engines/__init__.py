"""What computes: the engine port, the embedded engine and its process, the weights."""
