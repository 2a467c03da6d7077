"""`wsd token`: a token for a client, to try things out or in a script."""

import time
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, load_settings
from wsd.supervisor.machine.terminal import say


def token(
    user: Annotated[str, typer.Option("--user", metavar="ID", help="The user that the token is for")] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The name that others see (default: ID)")] = "",
    channel: Annotated[
        str, typer.Option("--channel", metavar="CHANNEL", help="Make a subscription token for this channel")
    ] = "",
    ttl: Annotated[
        int, typer.Option("--ttl", metavar="SECONDS", min=1, max=315_360_000, help="How long it is valid")
    ] = 3600,
    claim: Annotated[
        list[str] | None, typer.Option("--claim", metavar="NAME=VALUE", help="Another claim; VALUE is JSON or text")
    ] = None,
    key_file: Annotated[str, typer.Option("--key-file", metavar="FILE", help="Sign with this private key (PEM)")] = "",
    key_id: Annotated[
        str, typer.Option("--key-id", metavar="KID", help="The id of that key in a JSON Web Key Set")
    ] = "",
    algorithm: Annotated[
        str, typer.Option("--algorithm", metavar="ALG", help="Sign by this algorithm (default: the first that is set)")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Print a JSON Web Token that the workers accept.

    It is signed with security.jwt_secret, or with a private key where the settings have public keys, and names the
    audience and the issuer of the settings. No cluster needs to be running.

    With --channel it is a subscription token: it lets a client subscribe to the channel. --user may be left out then.

    Example: wsd token --user 42 --name Ann --ttl 86400
    Example: wsd token --user 42 --channel orders:42 --claim 'allow=["subscribe", "publish"]'
    Example: wsd token --user 42 --key-file private.pem --algorithm RS256
    """
    from wsd.supervisor.cli.signing import claims_of, signed, signing_key  # noqa: PLC0415

    security = load_settings(config, {}).config.security
    claims = claims_of(
        security,
        user=user,
        name=name,
        channel=channel,
        more=claim or [],
        issued_at=int(time.time()),
        seconds=ttl,
    )
    say(signed(claims, signing_key(security, key_file, algorithm), key_id))
