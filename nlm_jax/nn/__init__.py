"""Building blocks: parameters with logical axes, linear maps with LoRA, norms, RoPE, attention, scanned stacks."""
