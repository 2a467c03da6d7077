"""TLS connections to this node's own nginx."""

import ssl


def unverified_context() -> ssl.SSLContext:
    """Return a TLS context that accepts any certificate.

    The connection goes to our own nginx, by an address that its certificate need not name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
