"""Planning without hardware: whether a training step fits an accelerator, its predicted speed, its communication."""
