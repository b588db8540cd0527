"""One line of the doctor's report."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Check:
    """Attributes:
    check: its subject.
    status: "ok"; "warn" for what works in part or only for some runs; "FAIL" for what keeps a run from working.
    detail: what was found.
    remedy: what to do about it; empty where nothing needs doing.
    """

    check: str
    status: str
    detail: str
    remedy: str = ""


def warn_with(remedy: str, check: str, detail: str) -> Check:
    """A warning with this remedy; "ok" where that is empty."""
    return Check(check, WARN if remedy else OK, detail, remedy)


def gigabytes(count: float) -> str:
    """Bytes as people write them: 16 GB, 1.5 GB, 12 MB."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def described(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


class DoesNotCompose(ValueError):
    """Hydra cannot compose the recipe with its overrides; the message is one line of Hydra's."""
