"""What `verify` found about a person's own copy of the book's class, and how it is told."""

from dataclasses import dataclass, field

# Mini-batches of each epoch that are compared number by number, besides the last one.
COMPARED = 100
BATCH_SIZE = 10
# Not the book's η = 3: with two hidden layers the parameters of two right programs are 2e-8 apart after 2,000
# mini-batches of MNIST, and their counts part within the first epoch; with η = 1, 1e-13 after 5,000.
ETA = {"network": 1.0, "network2": 0.5}
DECAY = 1e-4  # λ/n: the book's λ = 5 for 50,000 examples


@dataclass(frozen=True)
class Difference:
    """Where the two part: in `what`, at this epoch, mini-batch (both from 0) and layer (the book's number), if any.

    size: max |yours - ours| / max |ours|. remark: what may be behind it.
    """

    what: str
    epoch: int | None = None
    batch: int | None = None
    layer: int | None = None
    size: float | None = None
    remark: str = ""

    def __str__(self) -> str:
        places = (("epoch", self.epoch), ("mini-batch", self.batch), ("layer", self.layer))
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        text = f"{self.what}{', in ' + where if where else ''}"
        if self.size is not None:
            text += f": a relative difference of {self.size:.2g}"
        return f"{text}; {self.remark}" if self.remark else text


@dataclass
class Report:
    """What `verify` found; printing it shows all.

    differences: the first in each of the things compared, in the order in which they came up. largest: by equation and
    layer, the largest relative difference met. forward_is_hidden: the feedforward inside `backprop` was not found among
    its variables for some example, and not looked at. accuracies: correct test examples after each epoch, (yours,
    ours). seconds: of the same call of SGD, (yours, ours).
    """

    path: str
    program: str
    data: str
    sizes: list[int]
    n_tests: int
    tolerance: float
    forward_is_hidden: bool = False
    shuffle: str | None = None
    differences: list[Difference] = field(default_factory=list)
    largest: dict[str, dict[int, float]] = field(default_factory=dict)
    accuracies: list[tuple[int, int]] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def same(self) -> bool:
        return not self.differences

    @property
    def speed_up(self) -> float:
        return self.seconds[0] / self.seconds[1]

    def __str__(self) -> str:
        return "\n".join([self._title(), "", *self._table(), "", *self._verdict(), "", *self._epochs(), self._speed()])

    def _title(self) -> str:
        return (
            f"{self.path} beside fastbp.book.{self.program}: Network({self.sizes}) on {self.data}, in mini-batches of "
            f"{BATCH_SIZE}, eta {ETA[self.program]:g}{f', lmbda/n {DECAY:g}' if self.program == 'network2' else ''}"
        )

    def _table(self) -> list[str]:
        layers = range(2, len(self.sizes) + 1)
        lines = [
            f"largest relative difference by layer (* beyond {self.tolerance:g}), in the first {COMPARED} mini-batches "
            f"of each epoch and its last",
            f"{'':<14}" + "".join(f"{f'layer {l}':>12}" for l in layers),
        ]
        for what, by_layer in self.largest.items():
            cells = ("" if l not in by_layer else self._cell(by_layer[l]) for l in layers)
            lines.append((f"{what:<14}" + "".join(f"{cell:>12}" for cell in cells)).rstrip())
        if self.forward_is_hidden:
            lines.append("feedforward is not all of it: its a and z are not among the variables of your backprop")
        return lines

    def _cell(self, size: float) -> str:
        return f"{size:.1e} *" if size > self.tolerance else f"{size:.1e}  "

    def _verdict(self) -> list[str]:
        if self.same:
            return [f"the same: parameters, order ({self.shuffle}), every equation, step and accuracy compared"]
        first, *others = self.differences
        return [f"they part first in {first}", *(f"and in {other}" for other in others)]

    def _epochs(self) -> list[str]:
        lines = [f"epoch   yours    ours   right of {self.n_tests:,}"]
        lines += [f"{epoch:>5}{yours:>8,}{ours:>8,}" for epoch, (yours, ours) in enumerate(self.accuracies)]
        if self.same and any(yours != ours for yours, ours in self.accuracies):
            lines.append("rounding, which grows with each epoch, has made the counts part; every step was the same")
        return lines

    def _speed(self) -> str:
        yours, ours = self.seconds
        return f"SGD took {yours:.2f} s with yours, {ours:.3g} s with ours: {self.speed_up:.3g} times as fast"
