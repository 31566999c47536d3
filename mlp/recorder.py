"""The recorder: called around each operation of a step that is given one. `bench` plugs a clock in here."""

from mlp.operations import Operation


class Recorder:
    """Does nothing; override what you need. `begin` and `end` are paired, in the order of the step.

    At `end` of a product its operands still hold what was multiplied (`Plan.operands`), so a recorder can
    verify every product of a step as it happens; a moment later an operand may be overwritten.
    """

    def begin(self, operation: Operation) -> None:
        """Called just before the operation."""

    def end(self, operation: Operation) -> None:
        """Called just after it."""
