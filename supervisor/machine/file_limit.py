"""The limit of open files, of which every connection is one."""

import resource
import sys


def raise_file_limit() -> int:
    """Raise the limit of open files to the hard limit, and return it. Child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
