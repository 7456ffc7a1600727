"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """A mistake in the config, the data or the environment.

    Its text names the config key or the file, what was found and what was expected. Command-line entry
    points print it as one line without a stack of frames and exit with status 1.
    """
