"""Dynamic loss scaling, which keeps small gradients from underflowing in fp16."""

from typing import Any

SMALLEST = 1.0


class LossScale:
    """A factor for the loss, halved when gradients overflow and doubled after `patience` steps without overflow.

    This is the rule of Micikevicius et al. 2018, section 3.2. The caller must skip the update of a step that overflows.
    """

    def __init__(self, value: float = 2.0**16, patience: int = 2000):
        self.value = value
        self.patience = patience
        self._calm = 0

    @property
    def can_shrink(self) -> bool:
        """Whether a smaller factor may still help; at the minimum of 1, the factor cannot be what overflows."""
        return self.value > SMALLEST

    def update(self, finite: bool) -> None:
        """Adjust the factor after a step, whose gradients were finite or not."""
        self._calm = self._calm + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self._calm == self.patience:
            self.value = self.value * 2
            self._calm = 0

    def numbers(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {"value": self.value, "calm": self._calm}

    def load(self, numbers: dict[str, Any]) -> None:
        """Resume from a state that `numbers` returned."""
        self.value = numbers["value"]
        self._calm = numbers["calm"]
