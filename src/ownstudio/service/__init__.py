"""What happens to a request: it waits for a slot, it is generated, it ends, it is accounted for."""
