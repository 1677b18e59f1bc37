"""The one exception of this package that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: a file, an option, a table.

    Its text is one line that names the file, the id or the option, the values that disagree, and
    the mend. Command lines print it without a traceback and exit with status 2.
    """
