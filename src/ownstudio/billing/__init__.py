"""What answers cost, and who has paid."""
