"""Examples in docstrings as code: their lines are indented below `Example:`, without a fence."""

import re
import textwrap

import griffe


class FencedExamples(griffe.Extension):
    """Puts a fence around the block below `Example:`."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Rewrites the docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """A docstring whose block below `Example:` is fenced."""
    head, mark, rest = docstring.partition("Example:\n")
    block = re.match(r"(?:[ \t]+\S.*\n?|[ \t]*\n)+", rest)
    if not mark or block is None or "```" in block[0] or ">>>" in block[0]:
        return docstring
    code = textwrap.indent(f"```python\n{textwrap.dedent(block[0]).strip()}\n```\n\n", "  ")
    return head + mark + code + rest[block.end() :]
