"""The TLS certificate that the settings name: how it is read, and what is wrong with it."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wsd.supervisor.config.settings import NginxConfig
from wsd.supervisor.counts import count
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning

WARN_BEFORE = timedelta(days=14)
"""Certificates that are valid for 90 days are renewed 30 days before their end. At 14 days, the renewal has failed for
two weeks."""


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that clients check."""

    serial: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(self.names) or "no name"
        return f"serial number {self.serial}, for {names}, until {_day(self.not_after)}"


def read(settings: NginxConfig) -> Certificate:
    """Read the certificate that the settings name, and check that its key belongs to it.

    Raises ValueError, with a text of one line, when the files cannot be read, or do not hold a certificate and its key.
    """
    from cryptography import x509  # noqa: PLC0415 - 8 MB that only TLS needs
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    chain, key_text = _bytes("tls_certificate", settings.tls_certificate), _bytes("tls_key", settings.tls_key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        names = []
    except (ValueError, IndexError):
        raise ValueError(
            f"nginx.tls_certificate {settings.tls_certificate} holds no certificate in PEM format"
        ) from None
    try:
        key = serialization.load_pem_private_key(key_text, None)
    except TypeError:
        raise ValueError(
            f"nginx.tls_key {settings.tls_key} is encrypted with a password, which nginx does not know: decrypt it"
        ) from None
    except Exception:  # noqa: BLE001 - cryptography has errors of its own for keys that it does not know
        raise ValueError(f"nginx.tls_key {settings.tls_key} holds no private key in PEM format") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise ValueError(
            f"nginx.tls_key {settings.tls_key} is not the key of the certificate in {settings.tls_certificate}"
        )
    return Certificate(f"{leaf.serial_number:x}", leaf.not_valid_before_utc, leaf.not_valid_after_utc, tuple(names))


def findings(certificate: Certificate, server_name: str, now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with a certificate, the worst first. Pure."""
    check, renew = "certificate", "renew it; a running cluster starts to use the new files by itself"
    if now >= certificate.not_after:
        yield failure(check, f"expired on {_day(certificate.not_after)}: clients refuse to connect", renew)
    elif now < certificate.not_before:
        text = f"is not valid before {_day(certificate.not_before)}: clients refuse to connect"
        yield failure(check, text, "is the clock of this machine right?")
    elif certificate.not_after - now <= WARN_BEFORE:
        days = (certificate.not_after - now).days
        text = f"expires on {_day(certificate.not_after)}, in {count(days, 'day')}"
        yield warning(check, text, renew)
    if server_name and not any(matches(name, server_name) for name in certificate.names):
        text = f"is for {', '.join(certificate.names) or 'no name'}, not for nginx.server_name {server_name}"
        yield warning(check, text, "have one issued for that name, or correct nginx.server_name")


def examine(settings: NginxConfig, now: datetime | None = None) -> Iterator[Finding]:
    """Yield findings about the certificate that the settings name, if they name one."""
    if not settings.tls_certificate:
        return
    try:
        certificate = read(settings)
    except ValueError as exc:
        yield failure(
            "certificate", str(exc), "nginx does not start with these files; a running nginx keeps its old certificate"
        )
        return
    yield from list(findings(certificate, settings.server_name, now or datetime.now(UTC))) or [
        ok("certificate", str(certificate))
    ]


def matches(name: str, host: str) -> bool:
    """Tell whether a name in a certificate, which may be a wildcard, covers a host (RFC 9525, section 6.3)."""
    name, host = name.lower(), host.lower()
    if name == host:
        return True
    first, _, rest = host.partition(".")
    return bool(first) and not _is_address(host) and name == f"*.{rest}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bytes(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise ValueError(f"nginx.{key} {path} cannot be read: {exc.strerror}") from None


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
