"""How much memory this machine has: a size that a user or a file declares is held against it before any is taken."""

import os


def physical() -> int | None:
    """Bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def gib() -> float | None:
    """The same in GiB, as reports show it."""
    n_bytes = physical()
    return None if n_bytes is None else round(n_bytes / 2**30, 1)


def limit() -> int:
    """Bytes that nothing may exceed: the memory, and where the system does not say, what a 48-bit address can reach."""
    return physical() or 2**48
