"""What a training run leaves behind: one record an epoch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """The epochs of one `fit`.

    `epochs` holds one dict each: `epoch` (from 0, as the book prints it), `eta`, `seconds`, `examples_per_second`,
    and with validation data `validation_cost` (without the L2 term) and `validation_score` (accuracy in 0 … 1 for
    labels, R² for real targets). `history["validation_score"]` is that column as a list. `ended` says what ended the
    run before its last epoch ("schedule"), or is None.
    """

    engine: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    ended: str | None = None

    def __getitem__(self, name: str) -> list[Any]:
        """One column, an entry an epoch; KeyError lists the columns there are."""
        if not self.epochs:
            return []
        if name not in self.epochs[0]:
            raise KeyError(f"{name!r} was not recorded; recorded are {', '.join(self.epochs[0])}")
        return [record[name] for record in self.epochs]

    def state(self) -> dict[str, Any]:
        """The records so far, a copy."""
        return {"epochs": [dict(record) for record in self.epochs], "ended": self.ended}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to the records of a `state`."""
        self.epochs[:] = [dict(record) for record in state["epochs"]]
        self.ended = state["ended"]

    def __len__(self) -> int:
        return len(self.epochs)
