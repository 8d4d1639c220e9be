"""The exceptions that fastbp raises beyond Python's own ValueError and TypeError."""


class FastbpError(Exception):
    """The base of every exception that only fastbp raises."""


class ModelFileError(FastbpError, ValueError):
    """A model file or a checkpoint is damaged, hostile, or written by something else; nothing was loaded."""


class CheckpointError(FastbpError, ValueError):
    """A checkpoint is sound, but belongs to another run than the one that shall go on from it; nothing was changed."""


class DataFileError(FastbpError, ValueError):
    """A data file is damaged, hostile, or not in the format it claims; nothing was loaded."""


class DivergenceError(FastbpError, ArithmeticError):
    """A parameter or a weighted input stopped being finite during training.

    The network keeps its last finite parameters. `epoch` counts from 0, as the book prints it;
    `batch` is the number of the mini-batch within that epoch, from 0. Both are None for a mini-batch on its own.
    """

    def __init__(self, epoch: int | None, batch: int | None, advice: str) -> None:
        where = "in this mini-batch" if epoch is None else f"in epoch {epoch}, mini-batch {batch}"
        super().__init__(
            f"training diverged {where}: a parameter became NaN or infinite. "
            f"The network keeps the last finite parameters. {advice}"
        )
        self.epoch = epoch
        self.batch = batch
        self.advice = advice

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[int | None, int | None, str]]:
        return type(self), (self.epoch, self.batch, self.advice)


def divergence_advice(eta: float) -> str:
    return f"Try a smaller step size than eta={eta:g}, or scale the inputs."
