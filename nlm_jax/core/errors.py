"""The exception for user-fixable errors, and its subclass for values that are not finite."""


class UserError(ValueError):
    """A user-fixable error: one sentence that names the file, field or flag and the way out.

    The command line prints it and exits with status 2; it never shows a stack trace for it.
    """


class NotFinite(UserError):
    """Samples or logits of one recording are NaN or infinite: that item cannot be answered, others can."""
