"""What of the paper is reproduced, item by item."""

from calepin.experiments import Item

__all__ = ["ITEMS"]

ITEMS: tuple[Item, ...] = ()
