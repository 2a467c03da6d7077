#!/usr/bin/env bash
# Start a cluster: a supervisor, workers, nginx, and Valkey unless REDIS_URL is set. Install wsd first if needed.
#
#   WORKERS=8 PORT=9000 deploy/start_distributed.sh [options of `wsd start`]
#
# From the environment: WORKERS (4), PORT (8000), NODE_ID (the host name), REDIS_URL (none), and all WSD_ settings.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v wsd >/dev/null; then
    make --no-print-directory .venv/.installed
    PATH="$PWD/.venv/bin:$PATH"
fi
exec wsd start --workers "${WORKERS:-4}" --port "${PORT:-8000}" "$@"
