"""Errors about a user's own tasks."""


class OwnTaskError(ValueError):
    """A user's task cannot be made; the message names the file and the remedy."""


class UntrustedTaskError(OwnTaskError):
    """A Python file that the user does not trust was not executed."""
