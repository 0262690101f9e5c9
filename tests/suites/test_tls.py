# SPDX-License-Identifier: MIT
"""curl and h2load against nginx over TLS, with HTTP/1.1 and HTTP/2."""

import pytest

import load
import servers

REQUESTS = 10_000
VERSIONS = {"http1": "--http1.1", "http2": "--http2"}


@pytest.fixture
def port(server, work_dir, files_dir, free_port, certificate):
    plain, tls = free_port(), free_port()
    servers.nginx(server, work_dir, plain, files_dir, tls=(tls, *certificate))
    return tls


@pytest.fixture(params=VERSIONS)
def curl(request, client, certificate):
    """Runs curl with this version of HTTP, and sees that it was spoken."""
    def run(*arguments):
        told = client.run(["curl", "--silent", "--show-error", "--fail", "--cacert", certificate[1],
                           VERSIONS[request.param], "--write-out", "%{http_version}\n", *arguments], seconds=90)
        spoken = set(told.stdout.split())
        assert spoken == {"2" if request.param == "http2" else "1.1"}, told.describe()
    return run


def url(port, path):
    return f"https://127.0.0.1:{port}/{path}"


def test_download(server, client, port, curl, work_dir, big_file, traffic):
    copy = work_dir / "copy"
    with traffic(big_file.length):
        curl("--output", copy, url(port, big_file.name))
    big_file.assert_equal(copy)


def test_upload(server, client, port, curl, work_dir, big_file, traffic):
    with traffic(big_file.length):
        curl("--upload-file", big_file.path, "--output", work_dir / "answer", url(port, "upload/copy"))
    big_file.assert_equal(work_dir / "upload" / "copy")


def test_parallel(server, client, port, curl, work_dir, small_files, traffic):
    with traffic(sum(file.length for file in small_files)):
        curl("--parallel", "--parallel-max", "50", "--output-dir", work_dir, "--remote-name-all",
             *(url(port, file.name) for file in small_files))
    for file in small_files:
        file.assert_equal(work_dir / file.name)


def test_h2load(server, client, port, small_files, traffic):
    page = small_files[0]
    with traffic(REQUESTS * page.length, connections=20):
        told = client.run(["h2load", "-n", str(REQUESTS), "-c", "20", "-m", "20", url(port, page.name)], seconds=90)
    load.assert_h2load_clean(told, REQUESTS)
    assert "Application protocol: h2" in told.stdout, told.describe()
