"""The error of the publisher."""

from typing import TYPE_CHECKING

from wsd.worker.contract.errors import WsdError

if TYPE_CHECKING:
    from wsd.publisher.records import PublishResult


class PublishError(WsdError):
    """The cluster could not be asked, or has refused. The text says what to do.

    `status` is that of the HTTP answer, or None without an answer. `results` are those of the messages of the same
    call that were published. `temporary` tells whether the same call may succeed later.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        results: "tuple[PublishResult, ...]" = (),
        temporary: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.results = results
        self.temporary = temporary
