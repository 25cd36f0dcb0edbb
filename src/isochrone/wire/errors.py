"""What can be wrong with bytes."""


class WireError(ValueError):
    """A peer's message can't be decoded or holds impossible values. Count it and drop it."""


class BadRequestError(ValueError):
    """A client's request can't be taken; it is told why.

    Attributes:
        message: one sentence for the person who wrote the client.
        param: the field at fault, as a path such as `messages[0].role`, or None.
        code: OpenAI's error code, or None.
        status: the HTTP status that fits.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
