"""What the reference writes around a question and behind an answer."""

DEFAULT_TEMPLATE = (
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
DEFAULT_END_SYM = "<|end_of_text|>"
