"""The parts of a worker, built as its environment says."""

from wsd.worker.backend.backend import Backend, memory_backend
from wsd.worker.backend.redis_backend import redis_backend
from wsd.worker.backend.roster import Roster
from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.hooks.functions import HookFunctions
from wsd.worker.hooks.webhooks import WebhookSettings
from wsd.worker.manager.connection import CentrifugeRules, ClientRules, ConnectionLimits
from wsd.worker.manager.parts import ManagerParts
from wsd.worker.security.authentication import load_hook
from wsd.worker.security.json_web_tokens import settings_for_tokens
from wsd.worker.security.subscription_tokens import SubscriptionTokens
from wsd.worker.wire.redaction import PayloadFilter


def build_backend(env: WorkerEnv, roster: Roster) -> Backend:
    """Build the backend: in Redis if `env` names one and does not forbid it, else in memory.

    Raises ValueError for a malformed Redis URL.
    """
    if env.distributed and env.redis_url:
        return redis_backend(env, roster)
    return memory_backend(session_ttl=env.session_ttl, trace_ttl=env.trace_ttl, max_events=env.webhook_max_waiting)


def build_parts(env: WorkerEnv, backend: Backend) -> ManagerParts:
    """Build the parts of the manager.

    Raises ValueError for an function of the application that cannot be loaded, for keys of tokens that cannot be
    read, and for rules of channels that are none.
    """
    for_tokens = settings_for_tokens(env)
    return ManagerParts(
        backend,
        worker_id=env.worker_id,
        node_id=env.node_id,
        rules=ClientRules(
            limits=ConnectionLimits(
                per_user=env.max_connections_per_user,
                messages_per_second=env.messages_per_second,
                message_burst=env.message_burst,
                bytes_per_second=env.bytes_per_second,
                byte_burst=env.byte_burst,
                max_message_bytes=env.max_message_bytes,
                idle_timeout=env.idle_timeout,
            ),
            payload_filter=PayloadFilter(env.sensitive_fields.split(",")),
            authorize=load_hook("security.authorize", env.authorize) if env.authorize else None,
            hooks=HookFunctions.load(env),
            webhooks=WebhookSettings.of(env),
            centrifuge=CentrifugeRules(
                enabled=env.centrifuge,
                personal_channel=env.centrifuge_personal_channel,
                broadcast=env.centrifuge_broadcast,
                rpc=load_hook("centrifuge.rpc", env.centrifuge_rpc) if env.centrifuge_rpc else None,
            ),
            ping_interval=env.ping_interval,
            subscription_tokens=SubscriptionTokens(for_tokens) if for_tokens.configured else None,
        ),
        channel_rules=ChannelRules(
            env.channels, client_broadcasts=env.client_broadcasts, client_directs=env.client_directs
        ),
        outlet=Outlet(
            max_buffer_bytes=env.max_buffer_bytes,
            max_total_bytes=env.max_total_buffer_bytes,
        ),
        call_timeout=env.redis_timeout,
    )
