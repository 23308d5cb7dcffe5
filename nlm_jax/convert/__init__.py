"""Checkpoints of others in and out: the official NatureLM class, Microsoft's BEATs, Hugging Face Llama and PEFT.

`formats.open_checkpoint(src)` reads configs and maps tensors; `.load()` streams them to devices, `.lazily()` leaves
them in their files; `formats.save(checkpoint, out, format)` writes. `table` is the one place where names meet.
"""
