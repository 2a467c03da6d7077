"""The steps of docs/guides/tls.md for a certificate in wsd. Load balancers: tests/cluster/test_load_balancers.py."""

import subprocess
from pathlib import Path

import trustme

from tests.support.cluster import Cluster
from tests.support.pages import ROOT, blocks, files
from tests.support.ports import unused_port
from tests.support.waiting import until

PAGE = ROOT / "docs" / "guides" / "tls.md"


def issue(authority: trustme.CA, directory: Path) -> None:
    """Write a certificate as certbot does: two files, one after the other."""
    leaf = authority.issue_cert("chat.example.com")
    leaf.cert_chain_pems[0].write_to_path(directory / "fullchain.pem")
    leaf.private_key_pem.write_to_path(directory / "privkey.pem")


def test_a_certificate_is_served_and_renewed_as_the_page_says(tmp_path: Path) -> None:
    live, webroot, https, http = tmp_path / "live", tmp_path / "acme", unused_port(), unused_port()
    live.mkdir()
    (webroot / ".well-known" / "acme-challenge").mkdir(parents=True)
    authority = trustme.CA()
    issue(authority, live)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    settings = files(PAGE)["wsd.toml"]
    for shown, here in {
        "/etc/letsencrypt/live/chat.example.com": str(live),
        "/var/lib/wsd/acme": str(webroot),
        "port = 443": f"port = {https}",
        "tls_redirect_port = 80": f"tls_redirect_port = {http}",
    }.items():
        assert shown in settings
        settings = settings.replace(shown, here)
    (steps,) = [block.text for block in blocks(PAGE) if "echo works" in block.text]
    curl = f"""curl() {{
        command curl --silent --cacert {tmp_path}/authority.pem --connect-to chat.example.com:80:127.0.0.1:{http} \\
            --connect-to chat.example.com:443:127.0.0.1:{https} "$@"
    }}
    """
    with Cluster(tmp_path, "--workers", "1", config=settings, port=https) as cluster:
        commands = curl + steps.replace("/var/lib/wsd/acme", str(webroot))
        shown = subprocess.run(["bash", "-eu", "-c", commands], capture_output=True, text=True, timeout=30).stdout
        assert shown.startswith("works\n")
        assert "308 Permanent Redirect\nServer: nginx" in shown.replace("\r", "")
        assert f"Location: https://chat.example.com:{https}/health" in shown
        assert shown.endswith("}")
        issue(authority, live)
        (line,) = [block.text for block in blocks(PAGE) if block.text.startswith("nginx uses a new certificate")]
        until(lambda: line.partition("3a9f")[0] in cluster.wsd("events").stdout, "the event")
