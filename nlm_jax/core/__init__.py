"""What everything else may lean on: dimension letters, the batch contract, strict configs, errors."""
