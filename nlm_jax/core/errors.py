"""The exception a user's own mistake may raise, and its case of numbers that are not finite."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that names the file, field or flag and the way out.

    The command line prints it and exits with status 2; it never shows a stack trace for it.
    """


class NotFinite(UserError):
    """Samples of a recording, or logits that came of it, are NaN or infinite: that one item cannot be answered."""
