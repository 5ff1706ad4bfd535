"""Attributes that cannot be replaced, because more was made of them already."""

from typing import Any, ClassVar


class Fixed:
    """Refuses another value for the attributes in `FIXED`, once they have one.

    What was computed from them, such as a compiled graph, would go on using the old
    value. Stands first among the base classes.
    """

    #: Names of the attributes.
    FIXED: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.FIXED and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(
                f"`{name}` of a {kind} is fixed when it is built. Build another {kind} "
                f"with the new value instead. Received: {name}={value}"
            )
        super().__setattr__(name, value)
