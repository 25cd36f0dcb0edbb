"""Full nodes verify what inference nodes answer. Empty until receipts can be checked."""
