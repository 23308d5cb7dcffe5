"""The one exception a user's own mistake may raise."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that names the file, field or flag and the way out.

    The command line prints it and exits with status 2; it never shows a stack trace for it.
    """
