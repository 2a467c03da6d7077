"""Make nginx use a renewed TLS certificate without a command, and warn about the one that it uses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from wsd.supervisor.config.file_contents import CERTIFICATE, Digests, digests
from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring import certificates
from wsd.supervisor.monitoring.certificates import Certificate
from wsd.supervisor.services.nginx import NginxService
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RETRY_LOOKS = 30
"""Files that nginx refused are tried again when they change, and every RETRY_LOOKS looks: their permissions may have
changed."""


class CertificateWatch:
    """A watch over the certificate's files, for as long as `run` runs."""

    def __init__(
        self, service: NginxService, config: Callable[[], Config], update: Callable[[], Awaitable[None]]
    ) -> None:
        """`config` returns the current settings. `update` makes nginx read its files again, or raises CommandError.

        `update` may do nothing while an operation is under way.
        """
        self._service = service
        self._config = config
        self._update = update
        self._served: Certificate | None = None
        self._refused: Digests = {}  # of the files that were tried last and are not in use
        self._looks = 0  # since those were tried
        self._problem = ""
        self._reported = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._config().nginx.tls_certificate:
                await self._look()

    async def _look(self) -> None:
        found = digests(self._config(), CERTIFICATE)
        if found == self._service.certificate:
            self._refused, self._problem, self._reported = {}, "", ""
            return
        self._looks += 1
        is_known = found == self._refused
        # If there was no problem, `update` did nothing because of an operation: try again.
        if is_known and self._problem and self._problem == self._reported and self._looks < RETRY_LOOKS:
            return
        self._refused, self._looks = found, 0
        try:
            certificates.read(self._config().nginx)
            await self._update()
        except (CommandError, OSError, ValueError) as exc:
            self._problem = str(exc)
            # A renewal writes two files, and a look may fall in between: a problem is reported at the second look.
            if is_known and self._problem != self._reported:
                self._reported = self._problem
                logger.warning("nginx keeps its old certificate: %s", exc, extra=EVENT)

    def served(self) -> None:
        """Note that nginx has read the files, and log an event if that changed its certificate."""
        settings = self._config().nginx
        before, self._served = self._served, None
        if not settings.tls_certificate:
            return
        try:
            self._served = certificates.read(settings)
        except ValueError as exc:
            logger.warning("the certificate that nginx uses cannot be read: %s", exc)
        if before is not None and self._served not in (None, before):
            logger.info("nginx uses a new certificate: %s", self._served, extra=EVENT)

    def warnings(self) -> Iterator[str]:
        """Yield what is wrong with the certificate in use, and with the files that should replace it."""
        if self._served is not None:
            server_name = self._config().nginx.server_name
            for finding in certificates.findings(self._served, server_name, datetime.now(UTC)):
                yield f"the TLS certificate {finding.found}"
        if self._reported:
            yield f"nginx still uses the old TLS certificate: {self._reported}"
