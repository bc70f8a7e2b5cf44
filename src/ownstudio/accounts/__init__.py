"""Who may: keys, and the principal that a key stands for."""
