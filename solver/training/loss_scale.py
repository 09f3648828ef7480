"""Loss scaling: what keeps small gradients from vanishing where the computation is in fp16."""

from typing import Any

SMALLEST = 1.0


class LossScale:
    """A factor for the loss, halved after gradients that overflow and doubled after `patience` steps without one.

    The rule of Micikevicius et al. 2018, section 3.2. A step that overflows is to be left out.
    """

    def __init__(self, value: float = 2.0**16, patience: int = 2000):
        self.value = value
        self.patience = patience
        self._calm = 0

    @property
    def can_shrink(self) -> bool:
        """Whether a smaller factor may still help: at the smallest, it is not the factor that overflows."""
        return self.value > SMALLEST

    def update(self, finite: bool) -> None:
        """After each step."""
        self._calm = self._calm + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self._calm == self.patience:
            self.value = self.value * 2
            self._calm = 0

    def numbers(self) -> dict[str, Any]:
        """Its state, as plain JSON values."""
        return {"value": self.value, "calm": self._calm}

    def load(self, numbers: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.value = numbers["value"]
        self._calm = numbers["calm"]
