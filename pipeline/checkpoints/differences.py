"""How far the results of code that is tried are from those of code that is known to work."""

from collections.abc import Iterable

from torch import Tensor


def largest_difference(tried: Iterable[Tensor], reference: Iterable[Tensor]) -> float:
    """Return the largest difference of any two tensors, relative to the largest value of the reference's tensor.

    Args:
        tried: tensors that may hold anything.
        reference: as many, of the same shapes.

    Returns:
        NaN where a value is NaN, so only `difference < limit` tells that results agree. 0 for equal tensors.
    """
    differences = [_relative(*pair) for pair in zip(tried, reference, strict=True)]
    # `max` would pass over a NaN that is not the first.
    return next((each for each in differences if each != each), max(differences))


def _relative(one: Tensor, other: Tensor) -> float:
    difference = float((one - other).abs().max())
    return difference / float(other.abs().max()) if difference else 0.0
