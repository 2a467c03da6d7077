"""Keys for tokens that are replaced in their file: `wsd reload` brings them to the workers, or leaves all as it was."""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.cluster import Cluster

CONFIG = '[security]\njwt_public_key_file = "key.pem"\njwt_algorithms = ["EdDSA"]\n\n[cluster]\ndrain_seconds = 1.0\n'


def new_key(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(key.public_key().public_bytes(*form))
    return key


def is_welcome(cluster: Cluster, key: Ed25519PrivateKey) -> bool:
    token = jwt.encode({"sub": "a", "exp": int(time.time()) + 60}, key, algorithm="EdDSA")
    with connect(f"ws://127.0.0.1:{cluster.port}/ws?token={token}") as client:
        try:
            return '"welcome"' in str(client.recv(timeout=10))
        except ConnectionClosed:
            return False


def test_reload_brings_a_new_public_key_to_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = new_key(path)
    with Cluster(tmp_path, "--workers", "1", config=CONFIG) as cluster:
        assert is_welcome(cluster, first)
        path.write_text("no key")
        refused = cluster.wsd("reload")
        assert refused.returncode == 1, refused.stdout
        assert "the settings are as before" in refused.stderr
        assert is_welcome(cluster, first)
        second = new_key(path)
        reloaded = cluster.wsd("reload")
        assert f"security.jwt_public_key_file: {path} has new content" in reloaded.stdout, reloaded.stderr
        assert is_welcome(cluster, second)
        assert not is_welcome(cluster, first)
        assert "no setting has changed" in cluster.wsd("reload").stdout
