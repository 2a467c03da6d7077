#!/usr/bin/env bash
# Installs wsd on the first run, then starts the cluster: supervisor, workers, nginx and Valkey (unless REDIS_URL is set).
#   deploy/start_distributed.sh [options of `wsd start`]     WORKERS=8, PORT=9000, NODE_ID=.., REDIS_URL=..
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v wsd >/dev/null; then
    make --no-print-directory .venv/.installed
    PATH="$PWD/.venv/bin:$PATH"
fi
exec wsd start --workers "${WORKERS:-4}" --port "${PORT:-8000}" "$@"
