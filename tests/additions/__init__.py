"""Additions to jaxdiff, as a user would make them: each is one file with a class and a preset, `CONFIG`."""
