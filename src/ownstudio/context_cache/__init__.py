"""What each account has sent to each model, as hashes: to report cache hits, to price them, to say why one failed."""
