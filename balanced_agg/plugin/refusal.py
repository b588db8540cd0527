"""Why a run is not launched: one exception for everybody who refuses a config before anything starts."""

from dataclasses import dataclass


@dataclass(eq=False)
class Refusal(ValueError):
    """What cannot work, or would not do what it says. Its text is one line: the key, what is wrong, and the remedy.

    Attributes:
        key: the key or environment variable to change.
        what: what is wrong with it, written behind the key: "=3 does not divide 8 GPUs", ": FILE does not exist".
        remedy: what to set it to, or what else to do.
    """

    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}{self.what}; {self.remedy}"
