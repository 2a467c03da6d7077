"""Channels, sessions and users over HTTP, for programs of the application: its backend, an administrator's script."""

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.broker.message_broker import HISTORY_UNAVAILABLE
from wsd.worker.contract.http_paths import HISTORY_PATH, PRESENCE_PATH
from wsd.worker.endpoints import operator_api
from wsd.worker.endpoints.answers import (
    ConnectionsAnswer,
    DeletedAnswer,
    EndedAnswer,
    PresenceAnswer,
    SessionsAnswer,
    ShownSession,
)
from wsd.worker.endpoints.parameters import Flag, Number, Text
from wsd.worker.endpoints.responses import ApiError, check_key, decoded, json_response
from wsd.worker.errors import ArchiveUnavailableError, RedisUnavailableError
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, check_channel
from wsd.worker.wire.close_codes import SESSION_ENDED_REASON, CloseCode
from wsd.worker.wire.position import MAX_EPOCH_LENGTH, MAX_OFFSET, is_epoch
from wsd.worker.worker import Worker

MAX_MEMBERS = 1000
"""Members in one answer."""

SINCE = Number("since", "The offset after which the page begins.", 0, MAX_OFFSET)
HISTORY_LIMIT = Number("limit", "The maximum number of messages. 0 means 1.", 100, wire.MAX_HISTORY_PAGE)
REVERSE = Flag("reverse", "Whether the page has the messages before `since`, the newest first.")
EPOCH = Text("epoch", "An earlier epoch of an archived channel: the `previous` of another answer.")
MEMBERS_LIMIT = Number("limit", "The maximum number of members in the answer.", MAX_MEMBERS, MAX_MEMBERS)
PAGE_OFFSET = Number("offset", "The number of items before the page.", 0, operator_api.MAX_PAGE_OFFSET)
PAGE_LIMIT = Number("limit", "The maximum number of items in the page.", 100, operator_api.MAX_PAGE)
OF_USER = Text("user_id", "The user whose sessions are listed. Without it, all sessions are.")

UNAVAILABLE = "Redis is away, and only it knows the sessions"


class Disconnect(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to end the sessions of a user, or one session, and to close their connections."""

    user_id: str = ""
    """The user whose sessions end."""

    session_id: str = ""
    """The one session that ends, in place of those of a user."""

    code: int = CloseCode.SESSION_ENDED
    reason: str = SESSION_ENDED_REASON


class ChangeUser(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to let all connections of a user join or leave a channel."""

    user_id: str
    channel: str


async def history(worker: Worker, request: Request) -> Response:
    """Answer with a page of a history, as a client's request `history` is answered.

    `broadcast` is a channel, too. A page may be shorter than `limit`, since it holds 512 KB at most, but at least one
    message: the next page begins where this one ends. A channel that was never used has offset 0 and an empty epoch.
    """
    channel = _named(request, HISTORY_PATH)
    check_key(worker, request, "history", [channel])
    since, limit, reverse = SINCE.of(request), HISTORY_LIMIT.of(request), REVERSE.of(request)
    if not is_epoch(epoch := EPOCH.of(request)):
        raise ApiError(400, f"epoch must have at most {MAX_EPOCH_LENGTH} of 0-9 A-Z a-z _ -")
    try:
        page = await worker.manager.history(channel, since, max(1, limit), reverse=reverse, epoch=epoch)
        return json_response(page)
    except RedisUnavailableError:
        raise ApiError(503, HISTORY_UNAVAILABLE) from None


async def delete_history(worker: Worker, request: Request) -> Response:
    """Delete the messages of a channel, also in its archive.

    Offsets go on, so that a client that had missed some of the messages is told of a gap. While the archive does not
    answer, nothing is deleted.
    """
    channel = _named(request, HISTORY_PATH)
    check_key(worker, request, "history", [channel])
    try:
        await worker.manager.delete_history(channel)
    except RedisUnavailableError:
        raise ApiError(503, HISTORY_UNAVAILABLE) from None
    except ArchiveUnavailableError:
        raise ApiError(503, "the archive does not answer, and nothing was deleted") from None
    return json_response(DeletedAnswer(deleted=True))


async def presence(worker: Worker, request: Request) -> Response:
    """Answer with the members of a channel. While Redis is away, they are those of one worker."""
    channel = _named(request, PRESENCE_PATH)
    check_key(worker, request, "presence", [channel])
    count, members = await worker.manager.presence(channel, MEMBERS_LIMIT.of(request))
    return json_response(PresenceAnswer(channel, count, members))


async def channels(worker: Worker, request: Request) -> Response:
    """Answer with a page of the largest channels."""
    found = await operator_api.largest_channels(worker, PAGE_OFFSET.of(request), PAGE_LIMIT.of(request))
    return json_response(found)


async def sessions(worker: Worker, request: Request) -> Response:
    """Answer with a page of all sessions, or of those of a user."""
    offset, limit, user_id = PAGE_OFFSET.of(request), PAGE_LIMIT.of(request), OF_USER.of(request)
    try:
        total, found = await worker.manager.sessions(user_id, offset=offset, limit=limit)
    except RedisUnavailableError:
        raise ApiError(503, UNAVAILABLE) from None
    return json_response(SessionsAnswer(total, [ShownSession.of(session) for session in found]))


async def disconnect(worker: Worker, request: Request) -> Response:
    """End sessions, and close their connections. Answer with the sessions."""
    wanted = await decoded(request, Disconnect)
    try:
        ended = await worker.manager.end_sessions(
            user_id=wanted.user_id, session_id=wanted.session_id, code=wanted.code, reason=wanted.reason
        )
    except ValueError as exc:
        raise ApiError(400, str(exc)) from None
    except RedisUnavailableError:
        raise ApiError(503, UNAVAILABLE) from None
    return json_response(EndedAnswer([ShownSession.of(session) for session in ended]))


async def subscribe(worker: Worker, request: Request) -> Response:
    """Let all connections of a user join a channel. Answer with how many have joined.

    The rules of the channel are not asked. Sessions of the user without a connection join, too, and are not counted.
    Clients are told with `subscribed`.
    """
    return await _change(worker, request, member=True)


async def unsubscribe(worker: Worker, request: Request) -> Response:
    """Let all connections of a user leave a channel. Answer with how many have left.

    Clients are told with `unsubscribed` and the reason `server`. A client that is away at this time is not told: if it
    names the channel in `since` when it comes back, and may be in it, it is in it again.
    """
    return await _change(worker, request, member=False)


async def _change(worker: Worker, request: Request, *, member: bool) -> Response:
    wanted = await decoded(request, ChangeUser)
    try:
        check_channel(wanted.channel)
        wire.check_user(wanted.user_id)
    except wire.RequestError as exc:
        raise ApiError(400, str(exc)) from None
    check_key(worker, request, "subscribe", [wanted.channel])
    change = worker.manager.subscribe_user if member else worker.manager.unsubscribe_user
    changed = await change(wanted.user_id, wanted.channel, workers=await worker.count_workers())
    return json_response(ConnectionsAnswer(changed))


def _named(request: Request, prefix: str) -> str:
    """Return the channel that the path of a request names. Raises ApiError."""
    channel: str = request.scope["path"].removeprefix(prefix)
    if channel != BROADCAST:
        try:
            check_channel(channel)
        except wire.RequestError as exc:
            raise ApiError(400, str(exc)) from None
    return channel
